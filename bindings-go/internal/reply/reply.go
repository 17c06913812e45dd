// Package reply builds replies to commands: a status in JSON, shortened to the broker's maximum payload.
package reply

import (
	"strings"
	"unicode/utf8"

	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

const (
	// MaxIDBytes is the maximum length of an id (HOST-WIRE-007); longer ids are refused with 413
	// (HOST-WIRE-009).
	MaxIDBytes = 256

	// maxHeaderTextBytes bounds the text in the Nats-Service-Error header. The body has the complete message.
	maxHeaderTextBytes = 200

	// maxHeaderBytes bounds the two service headers on the wire.
	maxHeaderBytes = maxHeaderTextBytes + 100

	// The headers of the NATS service convention.
	HeaderCode = "Nats-Service-Error-Code"
	HeaderText = "Nats-Service-Error"
)

// Code is the reason of a refusal, sent in the header Nats-Service-Error-Code. 0 means that there is no code.
type Code int

const (
	// BadRequest: the request is malformed or incomplete.
	BadRequest Code = 400
	// UnknownCommand: the host does not support the command.
	UnknownCommand Code = 404
	// Conflict: the id is in use.
	Conflict Code = 409
	// TooLarge: the id or the request is too large.
	TooLarge Code = 413
	// Unavailable: the host is shutting down or overloaded.
	Unavailable Code = 503
)

// Status is the content of a reply.
type Status struct {
	ID      string
	State   runtimev2.WorkloadState
	Message string
	Code    Code
}

// NotFound returns the reply for an unknown id.
func NotFound(id string) Status {
	return Status{ID: id, State: runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND, Message: "no workload has this id"}
}

// Refused returns the reply that refuses a command: the state ERROR and a code.
func Refused(id string, code Code, message string) Status {
	return Status{ID: id, State: runtimev2.WorkloadState_WORKLOAD_STATE_ERROR, Message: message, Code: code}
}

// Body returns the body of the reply. Body and headers together have at most maxPayloadBytes. Body shortens the
// message as needed, never the id (HOST-WIRE-010); it returns false if the id alone is too long.
func (s Status) Body(maxPayloadBytes int) ([]byte, bool) {
	maxBodyBytes := maxPayloadBytes
	if s.Code != 0 {
		maxBodyBytes -= maxHeaderBytes
	}
	message := strings.ToValidUTF8(s.Message, "\uFFFD")
	for {
		body, err := s.encode(message)
		if err != nil {
			return nil, false
		}
		if len(body) <= maxBodyBytes {
			return body, true
		}
		if message == "" {
			return nil, false
		}
		// JSON encodes a byte of the message in at most six bytes, so one pass never removes too much.
		excess := (len(body)-maxBodyBytes+5)/6 + len(ellipsis)
		message = Shorten(message, max(0, len(message)-excess))
	}
}

// encode encodes the status as the response to a start. Start, stop and status responses have the same JSON.
func (s Status) encode(message string) ([]byte, error) {
	return wire.Encode(&runtimev2.WorkloadStartResponse{WorkloadStatus: &runtimev2.WorkloadStatus{
		WorkloadId:    s.ID,
		WorkloadState: s.State,
		Message:       message,
	}})
}

// HeaderLine returns the value of the Nats-Service-Error header: one line of printable ASCII.
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

// Shorten returns at most maxBytes of a text. It cuts between characters and ends a shortened text with ….
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
