// Package e2e is what the tests of a whole relay have in common: requests by hand, a bare
// connection, a look into the database and at the management port, keys, mail and blobs. The tests
// are in the folders below, one for each noun; those of the relay's own life are in internal/app.
// For tests only.
//
// Invariant: an answer that a test reads through this package is held against the contract, as
// everything that comes through relaytest. A helper that cannot do its work fails the test.
package e2e
