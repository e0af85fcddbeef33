package conform

import (
	"fmt"
)

var deliveryChecks = []check{
	{"delivery.backlog", "What was pending comes as soon as the socket opens, in order, and then Drained with its last sequence.", func(t *try) {
		sender, d := t.device(), t.device()
		t.postMany(sender, d, "backlog", 150)
		got := t.pending(d)
		t.must(len(got.envelopes) == 150, "%d of 150 pending envelopes arrive before Drained", len(got.envelopes))
		t.inOrder(got.envelopes, 1)
		for i, text := range texts(got.envelopes) {
			t.must(text == fmt.Sprintf("backlog %d", i),
				"the envelopes are not in the order in which they were accepted")
		}
		t.must(got.last == 150, "Drained says %d, want 150", got.last)
	}},
	{"delivery.drained", "Drained comes once on a socket, also when nothing ever came (0) or nothing is pending.",
		func(t *try) {
			sender, d := t.device(), t.device()
			t.must(t.pending(d).last == 0, "Drained of a mailbox that never had any mail is not 0")
			s := t.connect(d)
			s.drain(false)
			for i := range 3 {
				t.post(sender, mail(d.id, fmt.Sprint(i)))
				for got := 0; got < 1; {
					frame := s.next("an envelope behind Drained")
					t.must(frame.GetDrained() == nil, "a second Drained")
					got = len(frame.GetEnvelopeBatch().GetEnvelopes())
				}
			}
			s.leave()
			t.must(t.pending(d).last == 3, "Drained does not say the last sequence")
		}},
	{"delivery.live", "What is sent while the socket is open arrives on it, in order.", func(t *try) {
		sender, d := t.device(), t.device()
		s := t.connect(d)
		s.drain(false)
		for i := range 5 {
			text := fmt.Sprintf("live %d", i)
			t.post(sender, mail(d.id, text))
			got := s.envelopes(1, "an envelope that was sent to an open socket")
			t.must(texts(got)[0] == text, "another envelope arrives than the one that was sent")
			t.inOrder(got, uint64(i)+1)
		}
		t.postMany(sender, d, "batch", 40)
		t.inOrder(s.envelopes(40, "a batch that was sent to an open socket"), 6)
	}},
	{"delivery.order", "Sequences count 1, 2, 3 without holes, however many send at once, and each sender's mail keeps its order.", func(t *try) {
		const senders, each = 3, 30
		d := t.device()
		var from [senders]*device
		for i := range from {
			from[i] = t.device()
		}
		s := t.connect(d)
		t.together(senders, func(i int) {
			for n := range each / 3 {
				t.post(from[i], mail(d.id, fmt.Sprintf("%d %d", i, 3*n)), mail(d.id, fmt.Sprintf("%d %d", i, 3*n+1)),
					mail(d.id, fmt.Sprintf("%d %d", i, 3*n+2)))
			}
		})
		got := s.envelopes(senders*each, "mail from several senders at once")
		t.inOrder(got, 1)
		var next [senders]int
		for _, text := range texts(got) {
			var i, n int
			_, err := fmt.Sscanf(text, "%d %d", &i, &n)
			t.must(err == nil && i < senders && n == next[i], "the mail of one sender has changed its order")
			next[i]++
		}
	}},
	{"delivery.private", "Each of two open sockets gets its own device's mail and no other.", func(t *try) {
		sender, one, two := t.device(), t.device(), t.device()
		first, second := t.connect(one), t.connect(two)
		first.drain(false)
		second.drain(false)
		for i := range 10 {
			t.post(sender, mail(one.id, fmt.Sprintf("one %d", i)), mail(two.id, fmt.Sprintf("two %d", i)))
		}
		for whose, s := range map[string]*socket{"one": first, "two": second} {
			for i, text := range texts(s.envelopes(10, "mail for one of two devices")) {
				t.must(text == fmt.Sprintf("%s %d", whose, i),
					"a socket gets other mail than its device's, in its order")
			}
		}
	}},
	{"delivery.key-status", "PreKeyStatus comes when the socket opens: EC and Kyber one-time keys that are left, threshold 20.", func(t *try) {
		d := t.deviceOf(t.owner(), 25, 3)
		status := t.connect(d).status()
		t.must(status.GetOneTimePreKeyCount() == 25 && status.GetKyberPreKeyCount() == 3,
			"PreKeyStatus says %d EC and %d Kyber keys, want 25 and 3",
			status.GetOneTimePreKeyCount(), status.GetKyberPreKeyCount())
		t.must(status.GetMinThreshold() == 20, "min_threshold is %d, want 20", status.GetMinThreshold())
	}},
	{"delivery.keys-low", "PreKeyStatus comes again when a bundle was handed out and fewer than 20 keys are left.",
		func(t *try) {
			caller, target := t.device(), t.user()
			d := t.deviceOf(target, 20, 20)
			s := t.connect(d)
			for told, drained := false, false; !told || !drained; { // in any order
				frame := s.next("PreKeyStatus and Drained")
				told, drained = told || frame.GetPreKeyStatus() != nil, drained || frame.GetDrained() != nil
			}
			t.bundle(caller, target.id)
			status := s.status()
			t.must(status.GetOneTimePreKeyCount() == 19 && status.GetKyberPreKeyCount() == 19,
				"PreKeyStatus says %d EC and %d Kyber keys, want 19 of each",
				status.GetOneTimePreKeyCount(), status.GetKyberPreKeyCount())
		}},
}

// passedOver is on how many sockets an envelope may be passed over: something later was
// acknowledged there.
const passedOver = 10

var acknowledgeChecks = []check{
	{"delivery.acknowledged", "What was acknowledged is not delivered again; acknowledging it twice does nothing.",
		func(t *try) {
			sender, d := t.device(), t.device()
			t.postMany(sender, d, "mail", 5)
			s := t.connect(d)
			got := s.drain(false).envelopes
			t.must(len(got) == 5, "%d of 5 envelopes arrive", len(got))
			s.acknowledge(got[0], got[2], got[4])
			s.acknowledge(got[0])
			s.leave()
			left := t.settles(d, 2, "after three of five were acknowledged").envelopes
			t.must(left[0].GetSequence() == 2 && left[1].GetSequence() == 4,
				"other envelopes were deleted than those that were acknowledged")
			s = t.connect(d)
			left = s.drain(true).envelopes
			s.acknowledge(got...)
			s.leave()
			t.must(len(left) == 2, "%d envelopes arrive, want 2", len(left))
			t.must(t.settles(d, 0, "after all were acknowledged").last == 5, "Drained does not say the last sequence")
		}},
	{"delivery.redelivered", "What was sent and not acknowledged is sent again on the next socket: the same ids, sequences and order.", func(t *try) {
		sender, d := t.device(), t.device()
		t.postMany(sender, d, "mail", 5)
		first := t.pending(d).envelopes
		t.must(len(first) == 5, "%d of 5 envelopes arrive", len(first))
		s := t.connect(d)
		again := s.drain(false).envelopes
		t.post(sender, mail(d.id, "later"))
		again = append(again, s.envelopes(1, "an envelope behind what was sent again")...)
		t.must(len(again) == 6, "%d envelopes arrive on the second socket, want 6", len(again))
		t.inOrder(again, 1)
		for i := range first {
			t.must(string(first[i].GetId()) == string(again[i].GetId()) &&
				string(first[i].GetMessage()) == string(again[i].GetMessage()),
				"an envelope that is sent again has another id or message")
		}
	}},
	{"delivery.broken", "An envelope that was passed over comes on every later socket, however many end with nothing acknowledged.", func(t *try) {
		sender, d := t.device(), t.device()
		t.postMany(sender, d, "mail", 2)
		s := t.connect(d)
		got := s.drain(false).envelopes
		t.must(len(got) == 2, "%d of 2 envelopes arrive", len(got))
		s.acknowledge(got[1])
		s.leave()
		t.settles(d, 1, "after the later one of two was acknowledged")
		for range passedOver + 1 {
			t.connect(d).drop()
			s := t.connect(d)
			b := s.drain(false)
			s.drop()
			t.must(len(b.envelopes) == 1, "%d envelopes come, want the one that was not acknowledged", len(b.envelopes))
		}
		b := t.pending(d)
		t.must(len(b.envelopes) == 1 && len(b.gaps) == 0,
			"%d envelopes and %d gaps come after sockets that ended with nothing acknowledged, want 1 and 0",
			len(b.envelopes), len(b.gaps))
	}},
	{"delivery.foreign-ack", "Acknowledging an id that is another device's, or nobody's, does nothing.", func(t *try) {
		sender, d, stranger := t.device(), t.device(), t.device()
		t.post(sender, mail(d.id, "mine"))
		t.post(sender, mail(stranger.id, "the stranger's"))
		open := t.connect(d)
		mine := open.drain(false).envelopes
		t.must(len(mine) == 1, "%d envelopes arrive, want 1", len(mine))
		s := t.connect(stranger)
		own := s.drain(false).envelopes
		t.must(len(own) == 1, "%d envelopes arrive, want 1", len(own))
		s.ack(mine[0].GetId())
		s.ack(make([]byte, 16))
		t.post(sender, mail(stranger.id, "still open"))
		s.acknowledge(append(own, s.envelopes(1, "mail on a socket that acknowledged another's")...)...)
		s.leave()
		t.settles(stranger, 0, "after its own mail was acknowledged") // and so what came before has been read too
		open.leave()
		got := t.pending(d)
		t.must(len(got.envelopes) == 1 && len(got.gaps) == 0,
			"an acknowledgement by another device has deleted an envelope")
	}},
}
