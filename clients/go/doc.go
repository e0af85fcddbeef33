// Package obscura is a client of an Obscura relay: it keeps tokens fresh, sends batches exactly
// once, and keeps the gateway open. It encrypts nothing: keys and ciphertext come from a library
// for the Signal Protocol, and what the relay carries is bytes.
//
// A Relay registers users and logs them in; each gives a Session, which acts for a user or for one
// of the user's devices. A Session uploads keys, fetches bundles and sends; its Gateway receives.
// For what this package has no method, Session.API is the client that is generated from
// openapi.yaml, with the session's tokens.
//
// # Errors
//
// An answer other than success is an *Error with the status, the stable code and the sentence of
// the relay. ErrSessionEnded, ErrRevoked and ErrDisplaced say that a session or a gateway has come
// to its end. Other errors are of the network, of the context, or of the application's own
// OnTokens.
//
// # Repeating
//
// What does no harm when it arrives twice is repeated until it is answered or its context ends:
// Send and SendSealed, with the key of their batch; key uploads; tickets; push and delivery tokens;
// and what only reads. Everything else is tried once, except that every call of a session is
// repeated after a 401, with a fresh token. What Session.API sends from a stream, such as a file,
// is sent once: its reader cannot be read again. Waits are random between 0 and d, where d begins
// at 1 s and doubles up to 60 s; on 429 and 503 they are what Retry-After says plus a random part
// of it. When that is later than the deadline of the context, the answer comes back as an error at
// once.
//
// A context without an end is a call without an end while the relay is unavailable. A call that is
// renewing the tokens when its context ends returns up to 10 s later if the answer to that got
// lost: until then the relay forgives a second use of the refresh token.
package obscura
