package berth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"berth.dev/go/internal/reply"
	"berth.dev/go/internal/subject"
	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// Client commands one host.
//
// Each command waits at most as long as its timeout, and as its context. A command whose context ends may
// have been carried out or not, as after a timeout.
type Client struct {
	conn     *nats.Conn
	hostID   string
	timeouts Timeouts
}

// Timeouts are how long each command may take; a field of 0 means its default, which is that of deployed
// schedulers.
type Timeouts struct {
	// Start is 60 s, by when a host must have answered.
	Start time.Duration
	// Stop is 30 s.
	Stop time.Duration
	// Status is 5 s.
	Status time.Duration
	// Heartbeat is 5 s.
	Heartbeat time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	for _, each := range []struct {
		timeout      *time.Duration
		defaultValue time.Duration
	}{
		{&t.Start, 60 * time.Second},
		{&t.Stop, 30 * time.Second},
		{&t.Status, 5 * time.Second},
		{&t.Heartbeat, 5 * time.Second},
	} {
		if *each.timeout == 0 {
			*each.timeout = each.defaultValue
		}
	}
	return t
}

// ClientOption changes how a [Client] commands.
type ClientOption func(*Client)

// WithTimeouts sets how long each command may take.
func WithTimeouts(timeouts Timeouts) ClientOption {
	return func(c *Client) { c.timeouts = timeouts }
}

// NewClient gives a client for the host with this id. Whether the host exists is seen at the first
// command. The error is [ErrHostID].
func NewClient(conn *nats.Conn, hostID string, options ...ClientOption) (*Client, error) {
	if !subject.IsToken(hostID) {
		return nil, fmt.Errorf("%q: %w", reply.Shorten(hostID, 64), ErrHostID)
	}
	c := &Client{conn: conn, hostID: hostID}
	for _, option := range options {
		option(c)
	}
	c.timeouts = c.timeouts.withDefaults()
	return c, nil
}

// HostID is the id of the host.
func (c *Client) HostID() string { return c.hostID }

// Start starts a workload. No error means that the host has it: RUNNING or COMPLETED, or STARTING and to be
// asked for with [Client.Status]. An answer in state ERROR is [ErrRefused], with or without a code.
//
// It is not idempotent by itself: after [ErrTimeout] send the same again or ask for the status. A refusal
// with [CodeConflict] then says that the first one arrived.
func (c *Client) Start(ctx context.Context, id string, workload *runtimev2.Workload) (Status, error) {
	request := &runtimev2.WorkloadStartRequest{WorkloadId: id, Workload: workload}
	if workload == nil {
		request.Workload = &runtimev2.Workload{}
	}
	status, err := c.command(ctx, subject.Start, c.timeouts.Start, id, request)
	return refusedIfError(c, subject.Start, status, err)
}

// Stop stops a workload. STOPPING acknowledges; NOT_FOUND, here or from [Client.Status], proves the end.
// It may be sent as often as one likes. An answer in state ERROR is [ErrRefused].
func (c *Client) Stop(ctx context.Context, id string) (Status, error) {
	request := &runtimev2.WorkloadStopRequest{WorkloadId: id}
	status, err := c.command(ctx, subject.Stop, c.timeouts.Stop, id, request)
	return refusedIfError(c, subject.Stop, status, err)
}

// Status asks for the state of a workload. ERROR and NOT_FOUND are states here, not errors; the error is
// [ErrRefused] only when the host refuses the question.
func (c *Client) Status(ctx context.Context, id string) (Status, error) {
	return c.command(ctx, subject.Status, c.timeouts.Status, id, &runtimev2.WorkloadStatusRequest{WorkloadId: id})
}

// Heartbeat asks for a heartbeat now. A wash host measures its load between two of them, so that asking
// often spoils the measure. The error is [ErrMalformed] also when the heartbeat is that of another host.
func (c *Client) Heartbeat(ctx context.Context) (*runtimev2.HostHeartbeat, error) {
	heartbeat := &runtimev2.HostHeartbeat{}
	answer, err := c.ask(ctx, subject.Heartbeat, c.timeouts.Heartbeat, []byte("{}"))
	if err == nil {
		if err = wire.Read(answer.Data, heartbeat); err != nil {
			err = malformed(err.Error())
		} else if heartbeat.Id != c.hostID {
			err = malformed("it is the heartbeat of another host")
		}
	}
	if err != nil {
		return nil, c.failed(subject.Heartbeat, err)
	}
	return heartbeat, nil
}

func (c *Client) command(
	ctx context.Context, command subject.Command, timeout time.Duration, id string, request proto.Message,
) (Status, error) {
	payload, err := wire.Write(request)
	if err != nil {
		return Status{}, c.failed(command, fmt.Errorf("%w: %w", ErrRequest, err))
	}
	answer, err := c.ask(ctx, command, timeout, payload)
	if err != nil {
		return Status{}, c.failed(command, err)
	}
	status, err := understood(id, answer)
	if err != nil {
		return Status{}, c.failed(command, err)
	}
	return status, nil
}

// ask sends one request and waits for the first answer.
func (c *Client) ask(
	ctx context.Context, command subject.Command, timeout time.Duration, payload []byte,
) (*nats.Msg, error) {
	if !c.conn.IsConnected() {
		return nil, ErrDisconnected
	}
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := c.conn.RequestWithContext(within, subject.Of(c.hostID, command), payload)
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return nil, fmt.Errorf("%w (%v)", ErrTimeout, timeout)
	case errors.Is(err, nats.ErrNoResponders):
		return nil, ErrNoResponders
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, ErrTooLarge
	default:
		return nil, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
}

func (c *Client) failed(command subject.Command, err error) error {
	return &CommandError{Command: string(command), HostID: c.hostID, Err: err}
}

// understood reads the status in an answer, checked to be one and to be that of the id. Start, stop and
// status have one form of answer.
func understood(id string, answer *nats.Msg) (Status, error) {
	response := &runtimev2.WorkloadStatusResponse{}
	if err := wire.Read(answer.Data, response); err != nil {
		return Status{}, malformed(err.Error())
	}
	status := response.GetWorkloadStatus()
	if status == nil {
		return Status{}, malformed("it has no workloadStatus")
	}
	state := status.GetWorkloadState()
	if code, err := strconv.Atoi(strings.TrimSpace(answer.Header.Get(reply.HeaderCode))); err == nil {
		return Status{}, &RefusedError{Code: code, State: state, Message: status.GetMessage()}
	}
	if state == StateUnspecified {
		return Status{}, malformed("it has no workloadState")
	}
	if status.GetWorkloadId() != id {
		return Status{}, malformed("it is about another workload")
	}
	return Status{WorkloadID: id, State: state, Message: status.GetMessage()}, nil
}

// refusedIfError makes a refusal of ERROR in answer to a start or a stop, which hosts without codes send.
func refusedIfError(c *Client, command subject.Command, status Status, err error) (Status, error) {
	if err == nil && status.State == StateError {
		return Status{}, c.failed(command, &RefusedError{State: status.State, Message: status.Message})
	}
	return status, err
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }
