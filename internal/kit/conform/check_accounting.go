package conform

import (
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// mailboxCap is how many envelopes a mailbox holds.
const mailboxCap = 1000

// balanced fails unless every sequence up to the last is delivered or reported, and none is twice.
func (t *try) balanced(b backlog, accepted int) {
	covered := b.covered()
	missing := 0
	for n := 1; n <= accepted; n++ {
		if !covered[uint64(n)] {
			missing++
		}
	}
	t.must(missing == 0, "%d of %d accepted envelopes are neither delivered nor reported in a gap", missing, accepted)
	t.must(len(covered) == accepted, "%d sequences are delivered or in gaps, and %d envelopes were accepted",
		len(covered), accepted)
	var last uint64
	for _, e := range b.envelopes {
		t.must(e.GetSequence() > last, "sequence %d comes after %d", e.GetSequence(), last)
		last = e.GetSequence()
	}
}

var accountingChecks = []check{
	{"accounting.cap", "A mailbox holds 1000 envelopes; what had to make room is the oldest and is reported as a gap before what follows.", func(t *try) {
		const over = 60
		sender, d := t.device(), t.device()
		t.postMany(sender, d, "flood", mailboxCap+over)
		box := t.account(d.token)
		for _, one := range box.Devices {
			t.must(one.Device.DeviceID != d.id || one.Mailbox.Pending == mailboxCap,
				"%d envelopes are pending, want 1000", one.Mailbox.Pending)
		}
		s := t.connect(d)
		var b backlog
		for b.last == 0 {
			switch p := s.next("the mail of a full mailbox").GetPayload().(type) {
			case *obscurapb.WebSocketFrame_Gap:
				b.gaps = append(b.gaps, p.Gap)
			case *obscurapb.WebSocketFrame_Drained:
				b.last = p.Drained.GetSequence()
			case *obscurapb.WebSocketFrame_EnvelopeBatch:
				t.must(len(b.gaps) > 0, "the envelopes behind a gap come before it")
				b.envelopes = append(b.envelopes, p.EnvelopeBatch.GetEnvelopes()...)
				s.acknowledge(p.EnvelopeBatch.GetEnvelopes()...)
			}
		}
		t.must(len(b.envelopes) == mailboxCap, "%d envelopes are delivered, want 1000", len(b.envelopes))
		t.must(b.envelopes[0].GetSequence() == over+1, "the first sequence is %d, want %d: the oldest make room",
			b.envelopes[0].GetSequence(), over+1)
		t.must(b.dropped(obscurapb.Gap_REASON_CAP) == over, "%d envelopes are reported as dropped for the cap, want %d",
			b.dropped(obscurapb.Gap_REASON_CAP), over)
	}},
	{"accounting.fair", "In a full mailbox room is made from the sender who holds most of it: a flood evicts itself, not others' mail.", func(t *try) {
		friend, flood, d := t.device(), t.device(), t.device()
		t.postMany(friend, d, "friend", 20)
		t.postMany(flood, d, "flood", mailboxCap)
		t.postMany(friend, d, "friend", 10)
		s := t.connect(d)
		b := s.drain(true)
		friends := 0
		for _, e := range b.envelopes {
			if string(e.GetSenderDeviceId()) == string(friend.id[:]) {
				friends++
			}
		}
		t.must(friends == 30, "%d of 30 envelopes of the one who does not flood are delivered", friends)
		t.balanced(b, mailboxCap+30)
	}},
	{"accounting.balance", "Accepted = delivered + pending + reported in gaps, through a full mailbox, acknowledgements and sockets that come and go.", func(t *try) {
		const total = mailboxCap + 200
		sender, d := t.device(), t.device()
		t.postMany(sender, d, "mail", 100)
		s := t.connect(d)
		first := s.drain(false)
		t.must(len(first.envelopes) == 100, "%d of 100 envelopes arrive", len(first.envelopes))
		s.acknowledge(first.envelopes[:50]...)
		s.leave()
		t.settles(d, 50, "after 50 of 100 were acknowledged")
		t.postMany(sender, d, "mail", total-100)
		s = t.connect(d)
		b := s.drain(true)
		t.must(b.last == total, "Drained says %d after %d were accepted", b.last, total)
		b.envelopes = append(first.envelopes[:50:50], b.envelopes...)
		t.balanced(b, total)
		s.leave()
		t.settles(d, 0, "after everything was acknowledged")
		for _, one := range t.account(d.token).Devices {
			t.must(one.Device.DeviceID != d.id || one.Mailbox.Accepted == total && one.Mailbox.Pending == 0,
				"the export says %d accepted and %d pending, want %d and 0", one.Mailbox.Accepted, one.Mailbox.Pending,
				total)
		}
	}},
	{"accounting.passed-over",
		"An envelope that is passed over on ten sockets comes on each of them, and is then reported as a gap.",
		func(t *try) {
			sender, d := t.device(), t.device()
			t.post(sender, mail(d.id, "passed over"))
			for n := 1; ; n++ {
				t.post(sender, mail(d.id, "acknowledged"))
				s := t.connect(d)
				b := s.drain(false)
				if b.dropped(obscurapb.Gap_REASON_QUARANTINED) > 0 {
					t.must(n > passedOver, "it is reported on socket %d", n)
					t.must(b.gaps[0].GetFrom() == 1 && b.gaps[0].GetTo() == 1, "the gap is from %d to %d, want 1",
						b.gaps[0].GetFrom(), b.gaps[0].GetTo())
					break
				}
				t.must(n < 2*passedOver, "it has been passed over on %d sockets and is not reported", n)
				t.must(n > passedOver || len(b.envelopes) > 1 && b.envelopes[0].GetSequence() == 1,
					"it does not come on socket %d", n)
				s.acknowledge(b.envelopes[len(b.envelopes)-1])
				s.leave()
			}
		}},
	{"accounting.gap-again", "A gap is told again on the next socket, as long as nothing behind it was acknowledged.",
		func(t *try) {
			sender, d := t.device(), t.device()
			t.postMany(sender, d, "old", 3)
			t.takeOver(d)
			t.post(sender, mail(d.id, "new"))
			for _, when := range []string{"the first", "the second"} {
				got := t.pending(d)
				t.must(got.dropped(obscurapb.Gap_REASON_TAKEOVER) == 3,
					"on %s socket %d of 3 dropped envelopes are reported", when, got.dropped(obscurapb.Gap_REASON_TAKEOVER))
			}
		}},
	{"accounting.gap-once", "A gap is told once on a socket, also while what follows it is being acknowledged.",
		func(t *try) {
			const over = 210
			sender, d := t.device(), t.device()
			t.postMany(sender, d, "flood", mailboxCap+over)
			s := t.connect(d)
			told := map[uint64]bool{}
			var all []*obscurapb.Envelope
			for len(all) < mailboxCap+1 {
				frame := s.next("the mail of a full mailbox, and one more")
				if gap := frame.GetGap(); gap != nil {
					for n := gap.GetFrom(); n <= gap.GetTo(); n++ {
						t.must(!told[n], "sequence %d is reported in two gaps on one socket", n)
						told[n] = true
					}
				}
				all = append(all, frame.GetEnvelopeBatch().GetEnvelopes()...)
				if frame.GetDrained() != nil {
					s.acknowledge(all...) // all at once: a relay has hardly forgotten the gap when it looks again
					t.post(sender, mail(d.id, "one more"))
				}
			}
			if len(told) == over+1 { // the one more was stored before the acknowledgement, and took the oldest's place
				delete(told, over+1)
			}
			t.must(len(told) == over, "%d sequences are reported in gaps, want %d", len(told), over)
		}},
}
