package api

import (
	"bytes"
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
)

// FuzzDecodeSend feeds request bodies: they are refused, or every submission of them is accounted
// for once, as well-formed or as failed.
func FuzzDecodeSend(f *testing.F) {
	id, device := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)
	seeds := []*obscurapb.SendMessageRequest{
		{},
		{Messages: []*obscurapb.Submission{{SubmissionId: id, DeviceId: device, Message: []byte("m"), Quiet: true}}},
		{Messages: []*obscurapb.Submission{{}, {SubmissionId: id[:15]}, {SubmissionId: id, DeviceId: device[:3]},
			{SubmissionId: id, DeviceId: device},
			{SubmissionId: id, DeviceId: device, Message: make([]byte, core.MaxMessage+1)}}},
		{Messages: make([]*obscurapb.Submission, core.MaxSubmissions+1)},
		{Messages: []*obscurapb.Submission{{SubmissionId: id}}, Shared: []*obscurapb.SharedSubmission{{},
			{Message: []byte("body"), Recipients: []*obscurapb.SharedRecipient{{},
				{SubmissionId: id, DeviceId: device, Prefix: []byte("own")}, {SubmissionId: id, DeviceId: device}}},
			{Message: make([]byte, core.MaxMessage), Recipients: []*obscurapb.SharedRecipient{
				{SubmissionId: id, DeviceId: device, Prefix: make([]byte, core.MaxPrefix+1)}}}},
			Audiences: []*obscurapb.Audience{{UserId: id, DevicesVersion: 1}}},
	}
	for i := range seeds[3].Messages {
		seeds[3].Messages[i] = &obscurapb.Submission{SubmissionId: id}
	}
	for _, seed := range seeds {
		body, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
		f.Add(body[:len(body)/2])
	}
	f.Add([]byte{0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		given := bytes.Clone(body)
		request, err := decodeSend(body)
		if err != nil {
			return
		}
		if len(request.GetMessages()) > core.MaxSubmissions {
			t.Fatal("too many submissions")
		}
		all, err := expand(request)
		if err != nil {
			return
		}
		if len(all) > core.MaxSubmissions+core.MaxRecipients {
			t.Fatal("too many recipients")
		}
		batch, outcomes, positions := submissions(all, false)
		key := derivedKey(all)
		clear(body) // the buffer is used again: nothing may point into it
		const stored = obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED
		failed := 0
		for _, o := range outcomes {
			if o.code != stored {
				failed++
			}
		}
		if len(batch.Submissions) != len(positions) || len(positions)+failed != len(all) {
			t.Fatalf("%d stored and %d failed of %d", len(positions), failed, len(all))
		}
		for i, position := range positions {
			s, m := batch.Submissions[i], all[position]
			if outcomes[position].code != stored || !bytes.Equal(s.Device[:], m.device) ||
				!bytes.Equal(s.Prefix, m.prefix) || !bytes.Equal(s.Message, m.message) || s.Quiet != m.quiet ||
				m.size() == 0 || m.size() > core.MaxMessage {
				t.Fatalf("position %d is wrong", position)
			}
		}
		same, err := decodeSend(given)
		if err != nil || !proto.Equal(request, same) {
			t.Fatal("what was decoded changed with the buffer")
		}
		if all, err = expand(same); err != nil || derivedKey(all) != key || key.Version() != 8 {
			t.Fatalf("derived key %s", key)
		}
	})
}

// FuzzDecodeJSON feeds JSON bodies: what is accepted means the same to encoding/json, and no object
// of it has two members that a decoder could take for the same known one.
func FuzzDecodeJSON(f *testing.F) {
	known := map[string]bool{"USERNAME": true, "PASSWORD": true, "A": true, "K": true, "S": true}
	for _, seed := range []string{
		`{"username":"alice","password":"correct horse"}`, `{"a":1,"A":2}`, `{"a":1,"a":1}`, `{"x":1,"x":2,"X":3}`,
		`{"a":null}`, `[[[[]]]]`, `{"k":"\u212a"}`,
		`{"K":1,"\u212a":2}`, `{"s":1,"\u017f":2}`, `{} {}`, `{}x`, `{"a":1,}`, `[1,]`, `"\ud800"`, `1e400`,
		"\xef\xbb\xbf{}", `{"a":{"b":[true,false,null,-0.5e-3]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		value, err := decodeJSON(body, known)
		if err != nil {
			return
		}
		var theirs any
		if err := json.Unmarshal(body, &theirs); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		noTwins(t, value, known)
		ours, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(withoutNull(theirs))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, want) {
			t.Fatalf("%s became %s", want, ours)
		}
		if again, err := decodeJSON(ours, known); err != nil {
			t.Fatalf("its own encoding is refused: %v, %v", err, again)
		}
	})
}

// withoutNull drops members that are null: they count as absent.
func withoutNull(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if member == nil {
				delete(v, name)
				continue
			}
			v[name] = withoutNull(member)
		}
	case []any:
		for i := range v {
			v[i] = withoutNull(v[i])
		}
	}
	return value
}

// noTwins fails when two members of an object are one to a decoder that ignores case.
func noTwins(t *testing.T, value any, known map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		seen := map[string]string{}
		for name, member := range v {
			fold := foldName(name)
			if other, twice := seen[fold]; twice && known[fold] {
				t.Fatalf("%q and %q were both accepted", other, name)
			}
			seen[fold] = name
			noTwins(t, member, known)
		}
	case []any:
		for _, item := range v {
			noTwins(t, item, known)
		}
	}
}
