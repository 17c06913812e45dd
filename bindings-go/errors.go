package berth

import (
	"errors"
	"fmt"
	"strings"

	"berth.dev/go/internal/reply"
)

// Errors of a [Client]. They differ in what the caller should do next. Test for them with [errors.Is].
var (
	// ErrNoResponders is returned when nobody listens under the host id: the host process has ended or is
	// not connected to the broker. Nothing was done.
	ErrNoResponders = errors.New("berth: no responders")
	// ErrTimeout is returned when the host listens but does not reply in time. The command may have been
	// executed, or may still be executed: ask for the status. A wash host does not reply to a request that it
	// cannot decode, nor while it pulls an image.
	ErrTimeout = errors.New("berth: no reply in time")
	// ErrRefused is returned when the host refuses the command or cannot execute it. [*RefusedError] has
	// the details.
	ErrRefused = errors.New("berth: refused by the host")
	// ErrInvalidResponse is returned when the reply is malformed, or concerns another workload or host.
	ErrInvalidResponse = errors.New("berth: invalid response")
	// ErrDisconnected is returned when the client is not connected to the broker. Nothing was sent.
	ErrDisconnected = errors.New("berth: not connected to the broker")
	// ErrRequestTooLarge is returned when the request exceeds the broker's maximum payload. Nothing was
	// sent.
	ErrRequestTooLarge = errors.New("berth: request exceeds the broker's maximum payload")
	// ErrInvalidHostID is returned when the id is not a valid subject token, or not a valid host id. Nothing
	// was sent.
	ErrInvalidHostID = errors.New("berth: invalid host id")
	// ErrEncode is returned when a message cannot be encoded as JSON, because an enum holds a number without
	// a name or a string is invalid UTF-8. Nothing was sent.
	ErrEncode = errors.New("berth: cannot encode message")
)

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
