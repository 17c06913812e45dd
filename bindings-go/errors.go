package berth

import (
	"errors"
	"fmt"

	"berth.dev/go/internal/reply"
)

// Why a command to a host did not succeed, told apart by what the caller should do next. Test for them
// with [errors.Is].
var (
	// ErrNoResponders: nobody listens under the id of the host. Its process is gone, or not connected to
	// the broker. Nothing was done.
	ErrNoResponders = errors.New("no host listens")
	// ErrTimeout: somebody listens and did not answer in time. The command may have been carried out, or
	// may still be: ask for the status. A wash host is silent to what it cannot decode, and while it
	// pulls.
	ErrTimeout = errors.New("the host did not answer in time")
	// ErrRefused: the host answered that it does not, or could not, obey. [*RefusedError] has the details.
	ErrRefused = errors.New("the host refused")
	// ErrMalformed: the host answered what is no answer.
	ErrMalformed = errors.New("the host's answer is malformed")
	// ErrDisconnected: there is no connection to the broker now. Nothing was sent.
	ErrDisconnected = errors.New("there is no connection to the broker")
	// ErrTooLarge: the request is larger than the broker takes. Nothing was sent.
	ErrTooLarge = errors.New("the request is larger than the broker takes")
	// ErrHostID: the host id cannot stand in a subject, or may not be that of a host. Nothing was sent.
	ErrHostID = errors.New("not the id of a host")
	// ErrRequest: the request cannot be written as JSON, because an enum holds a number without a name or
	// a text is no UTF-8. Nothing was sent.
	ErrRequest = errors.New("the request cannot be written as JSON")
)

// The codes of a refusal, as [RefusedError] holds them.
const (
	// CodeBadRequest: the request is malformed or lacks what it needs; mend it.
	CodeBadRequest = int(reply.BadRequest)
	// CodeUnknownCommand: the host has no such command; do without.
	CodeUnknownCommand = int(reply.UnknownCommand)
	// CodeConflict: the id is taken; ask for its status. After a retry it says that the first one arrived.
	CodeConflict = int(reply.Conflict)
	// CodeTooLarge: the id is too long; choose a shorter one.
	CodeTooLarge = int(reply.TooLarge)
	// CodeUnavailable: the host is leaving or full; try another one, or later.
	CodeUnavailable = int(reply.Unavailable)
)

// RefusedError is the answer of a host that does not, or could not, obey. It is [ErrRefused].
type RefusedError struct {
	// Code is one of the codes above; 0 from hosts that send none, and when the workload was accepted but
	// could not be started.
	Code int
	// State is the state in the answer.
	State State
	// Message is for people.
	Message string
}

func (e *RefusedError) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("the host refused: %s", e.Message)
	}
	return fmt.Sprintf("the host refused with code %d: %s", e.Code, e.Message)
}

// Is tells that it is [ErrRefused].
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// CommandError says which command to which host did not succeed. Every error of a [Client] is one; what
// went wrong is in Err.
type CommandError struct {
	// Command is heartbeat, workload.start, workload.stop or workload.status.
	Command string
	// HostID is the id of the host.
	HostID string
	// Err is what went wrong.
	Err error
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s on host %q: %v", e.Command, e.HostID, e.Err)
}

// Unwrap gives what went wrong.
func (e *CommandError) Unwrap() error { return e.Err }
