// Package bench loads a relay and says what it did: the scenarios of `obscura bench`.
//
// It speaks the contract's fixed part and nothing else, so that any relay that speaks it can be
// measured. Without a URL it starts a relay of its own: PostgreSQL as a child, the relay as another
// child (`obscura serve`), and the load in this process, so that the CPU time and the memory of the
// three are told apart.
//
// Requests, frames and sockets are its own, not those of clients/go or of the tests: the load
// shares the processors with what it measures, so it reads and writes the few fields that it needs
// by hand, into memory that it uses again. Registration, which is not measured, goes through
// clients/go.
//
// Invariants: every submission carries a number of its own, and a ledger knows for each number
// whether the relay promised to keep it (200, and not in the list of failures) and how often it
// arrived. What was promised and neither arrived nor was reported in a gap is lost, what arrived
// twice is duplicated: the figures are counted, never sampled. Under a given rate latency counts
// from the instant at which a request was due, so a relay that stalls is charged for what waited.
// Whatever a scenario started is stopped when it returns.
//
// On failure of a request or a socket the kind of failure is counted and the load goes on; a
// scenario fails only when there is nothing to measure.
package bench
