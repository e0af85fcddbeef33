package mailbox

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
)

// sequences draws what an id can carry: 60 bits, with an eye on the edges.
var sequences = rapid.OneOf(rapid.Int64Range(1, 1<<60-1), rapid.Int64Range(1, 5000),
	rapid.SampledFrom([]int64{1, 255, 256, 4095, 4096, 1 << 12, 1<<48 - 1, 1 << 48, 1<<60 - 1}))

var devices = rapid.Custom(func(t *rapid.T) core.DeviceID {
	return core.DeviceID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "device"))
})

func TestAnIDLeadsBackToItsSequenceForItsDeviceOnly(t *testing.T) {
	t.Parallel()
	pure(t, func(t *rapid.T) {
		device, other := devices.Draw(t, "own"), devices.Draw(t, "other")
		seq, second := sequences.Draw(t, "seq"), sequences.Draw(t, "second")
		id := IDsOf(device).Name(seq)
		if got, ok := IDsOf(device).Sequence(id[:]); !ok || got != seq {
			t.Fatalf("%v gives %d, %v; want %d", id, got, ok, seq)
		}
		if id.Version() != 4 || id.Variant() != uuid.RFC4122 || uuid.Validate(id.String()) != nil {
			t.Fatalf("%v is version %d, variant %v", id, id.Version(), id.Variant())
		}
		if (IDsOf(device).Name(second) == id) != (second == seq) {
			t.Fatalf("%d and %d share %v", seq, second, id)
		}
		if other != device {
			if got, ok := IDsOf(other).Sequence(id[:]); ok {
				t.Fatalf("another device's id leads to %d", got)
			}
		}
	})
}

// Whatever a client sends as an id either is the id of a sequence, to the bit, or nothing.
func TestOnlyTheExactIDIsAccepted(t *testing.T) {
	t.Parallel()
	pure(t, func(t *rapid.T) {
		device := devices.Draw(t, "device")
		id := IDsOf(device).Name(sequences.Draw(t, "seq"))
		mangled := slices.Clone(id[:])
		bit := rapid.IntRange(0, 127).Draw(t, "bit")
		mangled[bit/8] ^= 1 << (bit % 8)
		if seq, ok := IDsOf(device).Sequence(mangled); ok {
			if back := IDsOf(device).Name(seq); !slices.Equal(back[:], mangled) {
				t.Fatalf("%x is taken for sequence %d, whose id is %v", mangled, seq, back)
			}
		}
	})
}

func TestMalformedAndForeignIDsAreLeftOut(t *testing.T) {
	t.Parallel()
	device := uuid.New()
	own, foreign := IDsOf(device).Name(7), IDsOf(uuid.New()).Name(8)
	long := append(make([]byte, 1), make([]byte, 16)...)
	random := uuid.New()
	for _, id := range [][]byte{nil, {}, own[:15], long, foreign[:], random[:], make([]byte, 16)} {
		if got, ok := IDsOf(device).Sequence(id); ok {
			t.Errorf("%x leads to %d", id, got)
		}
	}
}
