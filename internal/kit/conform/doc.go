// Package conform holds a relay against the contract from outside: the checks of `obscura conform`.
//
// It needs nothing but the URL of the API and asks for nothing that the contract does not promise,
// so that it serves for a relay in any language. Each check is one promise with a name that stays;
// it passes, fails with a reason, or finds that the relay does not offer the thing.
//
// Invariants: every HTTP answer that any check sees is also validated against the embedded
// contract, and what breaks it there fails the check contract.answers. Checks run beside each other
// and share no device, so none can disturb another. A reason holds no password, token or ticket.
// Every user that was made is deleted at the end, also after a failure or an interruption.
//
// On failure: a check stops at the first thing that is wrong and the others go on. Waits are
// bounded: a check has 90 seconds, a request that the relay puts off (429, 503) one minute of them.
package conform
