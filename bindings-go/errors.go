package berth

import (
	"errors"
	"fmt"
	"strings"

	"berth.dev/go/internal/reply"
)

// Every error of a [Client] is of one of three kinds, which differ in what the caller should do next: [ErrNotSent],
// [ErrUnknownOutcome] or [ErrRefused]. Test for them with [errors.Is].
var (
	// ErrNotSent is the kind of the errors after which no host has received the request: nothing was done.
	ErrNotSent = errors.New("berth: not sent")
	// ErrUnknownOutcome is the kind of the errors after which the command may have been executed, or may still
	// be executed: ask for the status, with a context that has not ended.
	ErrUnknownOutcome = errors.New("berth: outcome unknown")
	// ErrRefused is returned when the host refuses the command or cannot execute it. [*RefusedError] has
	// the details.
	ErrRefused = errors.New("berth: refused by the host")
)

// Errors of the kind [ErrNotSent].
var (
	// ErrNoResponders is returned when nobody listens under the host id: the host process has ended or is
	// not connected to the broker.
	ErrNoResponders = newClientError("berth: no responders", ErrNotSent)
	// ErrDisconnected is returned when the connection to the broker is interrupted, draining or closed.
	ErrDisconnected = newClientError("berth: not connected to the broker", ErrNotSent)
	// ErrNotPermitted is returned when the broker denies this client the subject of the command.
	ErrNotPermitted = newClientError("berth: the permissions on the broker deny the command", ErrNotSent)
	// ErrRequestTooLarge is returned when the request exceeds the broker's maximum payload.
	ErrRequestTooLarge = newClientError("berth: request exceeds the broker's maximum payload", ErrNotSent)
	// ErrInvalidHostID is returned when the id is not a valid subject token, or not a valid host id.
	ErrInvalidHostID = newClientError("berth: invalid host id", ErrNotSent)
	// ErrInvalidRequest is returned when the workload id is empty, or when the workload to start is nil or empty.
	ErrInvalidRequest = newClientError("berth: invalid request", ErrNotSent)
	// ErrEncode is returned when a message cannot be encoded as JSON, because an enum holds a number without
	// a name or a string is invalid UTF-8.
	ErrEncode = newClientError("berth: cannot encode message", ErrNotSent)
)

// Errors of the kind [ErrUnknownOutcome].
var (
	// ErrTimeout is returned when the host listens but does not reply in time. A wash host does not reply to a
	// request that it cannot decode, nor while it pulls an image.
	ErrTimeout = newClientError("berth: no reply in time", ErrUnknownOutcome)
	// ErrInvalidResponse is returned when the reply is malformed, or concerns another workload or host.
	ErrInvalidResponse = newClientError("berth: invalid response", ErrUnknownOutcome)
)

// clientError is an error of a kind. Its text does not repeat the kind.
type clientError struct {
	text string
	kind error
}

func newClientError(text string, kind error) error { return &clientError{text, kind} }

func (e *clientError) Error() string { return e.text }

func (e *clientError) Unwrap() error { return e.kind }

// The codes in a [RefusedError].
const (
	// CodeBadRequest: the request is malformed or incomplete; correct it.
	CodeBadRequest = int(reply.BadRequest)
	// CodeUnknownCommand: the host does not support the command.
	CodeUnknownCommand = int(reply.UnknownCommand)
	// CodeConflict: the id is in use; ask for its status. In reply to a retry, the code means that the first
	// request arrived.
	CodeConflict = int(reply.Conflict)
	// CodeTooLarge: the id is too long; choose a shorter one.
	CodeTooLarge = int(reply.TooLarge)
	// CodeUnavailable: the host is shutting down or full; try another host, or retry later.
	CodeUnavailable = int(reply.Unavailable)
)

// RefusedError is returned when a host refuses a command or cannot execute it. It matches [ErrRefused].
type RefusedError struct {
	// Code is [CodeBadRequest], [CodeUnknownCommand], [CodeConflict], [CodeTooLarge] or [CodeUnavailable]. It
	// is 0 if the host sends no codes, or if the host accepted the workload but could not start it.
	Code int
	// State is the state in the reply.
	State State
	// Message explains the refusal to users.
	Message string
}

func (e *RefusedError) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("%v: %s", ErrRefused, e.Message)
	}
	return fmt.Sprintf("%v with code %d: %s", ErrRefused, e.Code, e.Message)
}

// Is reports whether the target is [ErrRefused].
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// CommandError adds the command and the host to an error. Every error of a [Client] is a CommandError.
type CommandError struct {
	// Command is heartbeat, workload.start, workload.stop or workload.status.
	Command string
	// HostID is the id of the host.
	HostID string
	// Err is the cause.
	Err error
}

func (e *CommandError) Error() string {
	cause := strings.TrimPrefix(e.Err.Error(), "berth: ")
	return fmt.Sprintf("berth: %s on host %q: %s", e.Command, e.HostID, cause)
}

// Unwrap returns the cause.
func (e *CommandError) Unwrap() error { return e.Err }
