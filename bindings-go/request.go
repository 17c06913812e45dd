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

// refused is the command of a request that is answered with its refusal.
const refused subject.Command = ""

// request is what a message asks for, or how it is refused.
type request struct {
	command  subject.Command
	id       string
	workload *runtimev2.Workload
	refusal  reply.Status
}

// readRequest reads whatever arrives; there is no failure, only a refusal.
func readRequest(hostID string, msg *nats.Msg) request {
	switch command := subject.ParseCommand(hostID, msg.Subject); command {
	case subject.Heartbeat:
		return request{command: command}
	case subject.Start:
		return readStart(msg.Data)
	case subject.Stop:
		read := &runtimev2.WorkloadStopRequest{}
		err := wire.Read(msg.Data, read)
		return readID(command, read.GetWorkloadId(), err)
	case subject.Status:
		read := &runtimev2.WorkloadStatusRequest{}
		err := wire.Read(msg.Data, read)
		return readID(command, read.GetWorkloadId(), err)
	default:
		unknown := reply.Shorten(string(command), 100)
		return refuse("", reply.UnknownCommand, fmt.Sprintf("there is no command %q", unknown))
	}
}

func readStart(payload []byte) request {
	read := &runtimev2.WorkloadStartRequest{}
	err := wire.Read(payload, read)
	r := readID(subject.Start, read.GetWorkloadId(), err)
	if r.command == refused {
		return r
	}
	if read.Workload == nil {
		return refuse(r.id, reply.BadRequest, "field `workload` is missing")
	}
	if read.Workload.GetService().GetMaxRestarts() > math.MaxUint32 {
		// A -1 that somebody cast: it would mean for ever (HOST-START-010).
		return refuse(r.id, reply.BadRequest,
			fmt.Sprintf("field `workload.service.maxRestarts`: above %d", uint32(math.MaxUint32)))
	}
	r.workload = read.Workload
	return r
}

// readID makes a request of the id in a payload, or of the error that came of reading it.
func readID(command subject.Command, id string, err error) request {
	switch {
	case err != nil:
		return refuse("", reply.BadRequest, err.Error())
	case id == "":
		return refuse("", reply.BadRequest, "field `workloadId` is missing or empty")
	case len(id) > reply.MaxIDBytes:
		return refuse("", reply.TooLarge,
			fmt.Sprintf("field `workloadId` has %d bytes; this host takes %d", len(id), reply.MaxIDBytes))
	}
	return request{command: command, id: id}
}

func refuse(id string, code reply.Code, message string) request {
	return request{command: refused, id: id, refusal: reply.Refused(id, code, message)}
}
