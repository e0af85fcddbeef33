package storage

// The advisory locks, in one list so that no two are the same. Nodes of another version may run
// beside this one: new ones come last, and a number is not used again.
const (
	// LockSigningKeys is held by whoever looks for a new signing key or makes one.
	LockSigningKeys int64 = 0x0b5c07a1 + iota
	// LockSweep is held by the one node that sweeps.
	LockSweep
	// LockReceipts is held by whoever writes receipts around midnight.
	LockReceipts
	// LockVacuum is held by the one node that vacuums.
	LockVacuum
	// LockVapidKey is held by whoever starts and reads or makes the VAPID key.
	LockVapidKey
	// LockWalk is held by the one node that looks through the blob store, for as long as that
	// takes.
	LockWalk
	// LockCertificateKeys is held by whoever reads or makes the keys of sender certificates.
	LockCertificateKeys
	// LockDistribution is held by the one command that distributes, and asked for by each new
	// session of a pool.
	LockDistribution
)
