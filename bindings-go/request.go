package berth

import (
	"fmt"
	"math"

	"github.com/nats-io/nats.go"

	"berth.dev/go/internal/reply"
	"berth.dev/go/internal/subject"
	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// refused marks a request that is answered with its refusal.
const refused subject.Command = ""

// request is a parsed message: a command or a refusal.
type request struct {
	command  subject.Command
	id       string
	workload *runtimev2.Workload
	refusal  reply.Status
}

// parseRequest never fails: an invalid message becomes a refusal.
func parseRequest(hostID string, msg *nats.Msg) request {
	switch command := subject.ParseCommand(hostID, msg.Subject); command {
	case subject.Heartbeat:
		return request{command: command}
	case subject.Start:
		return parseStart(msg.Data)
	case subject.Stop:
		message := &runtimev2.WorkloadStopRequest{}
		err := wire.Decode(msg.Data, message)
		return newRequest(command, msg.Data, message.GetWorkloadId(), err)
	case subject.Status:
		message := &runtimev2.WorkloadStatusRequest{}
		err := wire.Decode(msg.Data, message)
		return newRequest(command, msg.Data, message.GetWorkloadId(), err)
	default:
		unknown := reply.Shorten(string(command), 100)
		return refuse("", reply.UnknownCommand, fmt.Sprintf("unknown command %q", unknown))
	}
}

func parseStart(payload []byte) request {
	message := &runtimev2.WorkloadStartRequest{}
	err := wire.Decode(payload, message)
	r := newRequest(subject.Start, payload, message.GetWorkloadId(), err)
	if r.command == refused {
		return r
	}
	if message.Workload == nil {
		return refuse(r.id, reply.BadRequest, "field `workload` is missing")
	}
	if message.Workload.GetService().GetMaxRestarts() > math.MaxUint32 {
		// Probably -1 cast to an unsigned integer, which would mean unlimited restarts (HOST-START-010).
		return refuse(r.id, reply.BadRequest,
			fmt.Sprintf("field `workload.service.maxRestarts` is above %d", uint32(math.MaxUint32)))
	}
	r.workload = message.Workload
	return r
}

// readableID returns the id in a request with another invalid field, or an empty string.
func readableID(payload []byte) string {
	// Of all requests, the one for a status has no other fields.
	message := &runtimev2.WorkloadStatusRequest{}
	if err := wire.Decode(payload, message); err != nil || len(message.WorkloadId) > reply.MaxIDBytes {
		return ""
	}
	return message.WorkloadId
}

// newRequest returns a request for the id, or a refusal if the payload or the id is invalid.
func newRequest(command subject.Command, payload []byte, id string, err error) request {
	switch {
	case err != nil:
		return refuse(readableID(payload), reply.BadRequest, err.Error())
	case id == "":
		return refuse("", reply.BadRequest, "field `workloadId` is missing or empty")
	case len(id) > reply.MaxIDBytes:
		return refuse("", reply.TooLarge,
			fmt.Sprintf("field `workloadId` has %d bytes, the limit is %d", len(id), reply.MaxIDBytes))
	}
	return request{command: command, id: id}
}

func refuse(id string, code reply.Code, message string) request {
	return request{command: refused, id: id, refusal: reply.Refused(id, code, message)}
}
