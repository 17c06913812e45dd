// Package subject builds and parses the subjects of the protocol. No other package builds or parses them.
package subject

import (
	"strings"
	"unicode"
)

// Command is a command to a host: the subject tokens after the host id.
type Command string

const (
	Heartbeat Command = "heartbeat"
	Start     Command = "workload.start"
	Stop      Command = "workload.stop"
	Status    Command = "workload.status"
)

const (
	hostPrefix      = "runtime.host."
	heartbeatPrefix = "runtime.operator.heartbeat."
)

// Discover is the subject of requests to all hosts of the extension discover.
const Discover = "berth.ext.v1.discover"

// AllHeartbeats is the subject that matches the heartbeats of all hosts.
const AllHeartbeats = heartbeatPrefix + ">"

// ForCommand returns the subject of a command to a host.
func ForCommand(hostID string, command Command) string {
	return hostPrefix + hostID + "." + string(command)
}

// AllCommands returns the subject that matches all commands to a host.
func AllCommands(hostID string) string { return hostPrefix + hostID + ".>" }

// ParseCommand returns the command, known or not, in a subject that matches [AllCommands].
func ParseCommand(hostID, subject string) Command {
	return Command(strings.TrimPrefix(subject, hostPrefix+hostID+"."))
}

// ForHeartbeats returns the subject of a host's heartbeats.
func ForHeartbeats(hostID string) string { return heartbeatPrefix + hostID }

// ParseHeartbeat returns the host id in a subject that matches [AllHeartbeats]. It returns false if the id is
// invalid (SCHED-REG-007).
func ParseHeartbeat(subject string) (hostID string, ok bool) {
	hostID, ok = strings.CutPrefix(subject, heartbeatPrefix)
	return hostID, ok && IsHostID(hostID)
}

// IsProtocol reports whether a subject belongs to the protocol.
func IsProtocol(subject string) bool { return strings.HasPrefix(subject, "runtime.") }

// maxTokenBytes bounds ids in subjects.
const maxTokenBytes = 256

// IsToken reports whether an id is a valid subject token, without wildcards.
func IsToken(id string) bool {
	forbidden := func(r rune) bool {
		return r == '.' || r == '*' || r == '>' || unicode.IsSpace(r) || unicode.IsControl(r)
	}
	return id != "" && len(id) <= maxTokenBytes && !strings.ContainsFunc(id, forbidden)
}

// IsHostID reports whether an id is a valid host id (HOST-WIRE-012).
func IsHostID(id string) bool {
	allowed := func(r rune) bool {
		return r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	return IsToken(id) && !strings.ContainsFunc(id, func(r rune) bool { return !allowed(r) })
}
