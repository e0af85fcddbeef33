package limit

// Pressure says what is refused while the relay runs short of something. A level refuses what those
// below it refuse, and more. None refuses acknowledgements and deletions: they make room.
type Pressure int32

// The levels.
const (
	NoPressure     Pressure = iota
	RefuseAccounts          // no new accounts
	RefuseLogIns            // no log-ins; sessions that are there are refreshed
	RefuseUploads           // no new devices, attachments and backups
	RefuseSends             // no messages
)

// String names what a level refuses beyond the one below it.
func (p Pressure) String() string {
	return [...]string{"none", "accounts", "log-ins", "uploads", "sends"}[p]
}

// PressureOf is the level of something of which there is a reserve: none while all of it is free,
// and one more each time that half of the rest is gone, up to most.
func PressureOf(free, reserve float64, most Pressure) Pressure {
	level := NoPressure
	for ; level < most && free < reserve; level++ {
		reserve /= 2
	}
	return level
}
