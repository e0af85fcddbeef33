-- Envelopes for which nobody is woken up.

-- +goose Up

-- The run of quiet envelopes at the end of the mailbox: their first sequence and their last. It counts only
-- while quiet_to = next_seq - 1. The previous binary advances next_seq alone: the run has ended then, and what
-- it stored wakes up. No index, so that updates need not touch one.
ALTER TABLE mailboxes ADD COLUMN quiet_from bigint NOT NULL DEFAULT 0,
                      ADD COLUMN quiet_to   bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE mailboxes DROP COLUMN quiet_to,
                      DROP COLUMN quiet_from;
