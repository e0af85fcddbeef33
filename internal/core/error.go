package core

import (
	"errors"
	"time"
)

// Kind is the class of an error that a caller can act on. internal/api turns each into a status.
type Kind uint8

// The kinds. An error without a kind is internal: the caller only learns that the request failed.
const (
	// Invalid: the request contradicts the contract.
	Invalid Kind = iota + 1
	// Unauthorized: no valid credential.
	Unauthorized
	// Forbidden: the credential is valid and does not allow this.
	Forbidden
	// NotFound: no such thing, or not the caller's.
	NotFound
	// Conflict: it contradicts what the relay holds.
	Conflict
	// Unmet: a condition that the caller set does not hold.
	Unmet
	// TooLarge: above a size limit.
	TooLarge
	// Limited: too many requests; try again after RetryAfter.
	Limited
	// Unavailable: overloaded, or the database is unavailable; try again after RetryAfter. Nothing
	// was changed, unless the connection was lost while the database committed.
	Unavailable
)

// Error is an error for the caller. Sentence and Code are constants of this program: they never
// repeat what the caller sent.
type Error struct {
	Kind Kind
	// Code is stable snake_case, for programs.
	Code string
	// Sentence is for a person.
	Sentence string
	// RetryAfter accompanies Limited and Unavailable.
	RetryAfter time.Duration
	// Cause is for the log of this node only.
	Cause error
}

// NewError makes an error of a kind with a stable code and a sentence.
func NewError(kind Kind, code, sentence string) *Error {
	return &Error{Kind: kind, Code: code, Sentence: sentence}
}

// ErrUnauthorized is the answer to a missing, expired or revoked credential.
var ErrUnauthorized = NewError(Unauthorized, "unauthorized", "A valid access token is required.")

// ErrNoUser tells the operator, and no client, that there is no such user.
var ErrNoUser = errors.New("there is no such user: name one as `obscura admin users list` does, or by id")

// Busy is the answer when the relay cannot take the request now; cause is for the log.
func Busy(cause error) *Error {
	return &Error{Kind: Unavailable, Code: "unavailable", RetryAfter: time.Second, Cause: cause,
		Sentence: "The relay cannot take this request now; try again shortly."}
}

// Error implements error.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Code + ": " + e.Cause.Error()
	}
	return e.Code
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is makes errors.Is compare by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Kind == e.Kind
}

// KindOf returns the kind of an error, 0 for an internal one.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}
