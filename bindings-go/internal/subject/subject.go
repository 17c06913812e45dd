// Package subject makes the subjects of the protocol and takes them apart; nothing else does.
package subject

import (
	"strings"
	"unicode"
)

// Command is what a host can be asked: the tokens behind its id.
type Command string

const (
	Heartbeat Command = "heartbeat"
	Start     Command = "workload.start"
	Stop      Command = "workload.stop"
	Status    Command = "workload.status"
)

const (
	hosts      = "runtime.host."
	heartbeats = "runtime.operator.heartbeat."
)

// AllHeartbeats is where the heartbeats of all hosts arrive.
const AllHeartbeats = heartbeats + ">"

// Of gives the subject of one command to one host.
func Of(hostID string, command Command) string { return hosts + hostID + "." + string(command) }

// Commands gives the subject of everything that is asked of one host.
func Commands(hostID string) string { return hosts + hostID + ".>" }

// ParseCommand gives what a subject below [Commands] asks for, known or not.
func ParseCommand(hostID, subject string) Command {
	return Command(strings.TrimPrefix(subject, hosts+hostID+"."))
}

// HeartbeatOf gives where one host publishes its heartbeats.
func HeartbeatOf(hostID string) string { return heartbeats + hostID }

// ParseHeartbeat gives the host that published on a subject below [AllHeartbeats]; not ok when its id may not
// be that of a host (SCHED-REG-007).
func ParseHeartbeat(subject string) (hostID string, ok bool) {
	hostID, ok = strings.CutPrefix(subject, heartbeats)
	return hostID, ok && IsHostID(hostID)
}

// IsOfTheProtocol tells whether a subject is one of those that commands and heartbeats take.
func IsOfTheProtocol(subject string) bool { return strings.HasPrefix(subject, "runtime.") }

// maxTokenBytes bounds the ids that stand in subjects.
const maxTokenBytes = 256

// IsToken tells whether an id can stand in a subject: one token, nothing that a broker reads in its own
// way.
func IsToken(id string) bool {
	forbidden := func(r rune) bool {
		return r == '.' || r == '*' || r == '>' || unicode.IsSpace(r) || unicode.IsControl(r)
	}
	return id != "" && len(id) <= maxTokenBytes && !strings.ContainsFunc(id, forbidden)
}

// IsHostID tells whether a host may use an id as its own (HOST-WIRE-012).
func IsHostID(id string) bool {
	allowed := func(r rune) bool {
		return r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	return IsToken(id) && !strings.ContainsFunc(id, func(r rune) bool { return !allowed(r) })
}
