// Package reply is the answer to a command: the status envelope, and what makes it fit through the bus.
package reply

import (
	"strings"
	"unicode/utf8"

	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const (
	// MaxIDBytes is the longest id that is accepted and echoed (HOST-WIRE-007); longer ones are refused
	// with 413 (HOST-WIRE-009).
	MaxIDBytes = 256

	// maxHeaderTextBytes bounds the text in the Nats-Service-Error header; the whole message stands in
	// the body.
	maxHeaderTextBytes = 200

	// headerRoomBytes is what the two service headers take on the wire at most, subtracted from the room
	// of the body.
	headerRoomBytes = maxHeaderTextBytes + 100

	// The headers of the NATS service convention.
	HeaderCode = "Nats-Service-Error-Code"
	HeaderText = "Nats-Service-Error"
)

// Code says why a command was not obeyed, in the header Nats-Service-Error-Code. 0 is none.
type Code int

const (
	// BadRequest: the request is malformed or lacks what it needs.
	BadRequest Code = 400
	// UnknownCommand: there is no such command.
	UnknownCommand Code = 404
	// Conflict: the id is in use.
	Conflict Code = 409
	// TooLarge: the id or the request is too large.
	TooLarge Code = 413
	// Unavailable: the host is shutting down, or has more to do than it can.
	Unavailable Code = 503
)

// Status is what a caller is told about one id.
type Status struct {
	ID      string
	State   runtimev2.WorkloadState
	Message string
	Code    Code
}

// NotFound says that no workload has the id.
func NotFound(id string) Status {
	return Status{ID: id, State: runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND, Message: "no workload has this id"}
}

// Refused is the answer to a command that was not obeyed: ERROR, and the code in the headers.
func Refused(id string, code Code, message string) Status {
	return Status{ID: id, State: runtimev2.WorkloadState_WORKLOAD_STATE_ERROR, Message: message, Code: code}
}

// Body gives the payload, at most maxPayloadBytes long together with the headers. The message is
// shortened to make it fit, the id never (HOST-WIRE-010); false when the id alone is too long.
func (s Status) Body(maxPayloadBytes int) ([]byte, bool) {
	room := maxPayloadBytes
	if s.Code != 0 {
		room -= headerRoomBytes
	}
	message := strings.ToValidUTF8(s.Message, "\uFFFD")
	for {
		body, err := s.envelope(message)
		if err != nil {
			return nil, false
		}
		if len(body) <= room {
			return body, true
		}
		if message == "" {
			return nil, false
		}
		// One byte of message is at most six of JSON, so this never takes too much away twice.
		excess := (len(body)-room+5)/6 + len(ellipsis)
		message = Shorten(message, max(0, len(message)-excess))
	}
}

// envelope writes the answer. Start, stop and status have one form; it is written as that of start.
func (s Status) envelope(message string) ([]byte, error) {
	return wire.Write(&runtimev2.WorkloadStartResponse{WorkloadStatus: &runtimev2.WorkloadStatus{
		WorkloadId:    s.ID,
		WorkloadState: s.State,
		Message:       message,
	}})
}

// HeaderLine gives the value of Nats-Service-Error: one line of printable ASCII.
func (s Status) HeaderLine() string {
	printable := func(r rune) rune {
		if r >= ' ' && r <= '~' {
			return r
		}
		return '?'
	}
	line := strings.Map(printable, s.Message)
	return strings.TrimSpace(line[:min(len(line), maxHeaderTextBytes)])
}

const ellipsis = "…"

// Shorten gives at most maxBytes of the text, cut between characters and with … where something is
// missing.
func Shorten(text string, maxBytes int) string {
	if len(text) <= maxBytes {
		return text
	}
	end := maxBytes - len(ellipsis)
	if end < 0 {
		return ""
	}
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}
