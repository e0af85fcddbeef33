// Package faults holds the fault suite: the real binary, twice, on a real PostgreSQL, while things
// break. It has tests only.
//
// What it proves, for every device and whatever broke: accepted = seen or acknowledged + pending +
// reported in gaps, by sequence; whoever was told 200 was told the truth, once; nothing goes
// backwards on a connection, reaches another device or arrives twice without a reconnect; /readyz
// tells of an outage and recovers by itself; requests that an outage refuses hear 503 with
// Retry-After, never another 5xx.
//
// `go test ./internal/kit/faults` breaks each thing once. `make soak DURATION=1h` breaks them at
// random and prints a ledger for every round; it also prints the seed that repeats its choices.
// One test has two servers, with a bucket each, of which one breaks: -run
// TestFaultsOfOneOfTwoServers, which takes -soak and -seed too.
package faults
