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

// Client sends commands to one host.
//
// Each command ends with its timeout or with its context, whichever ends first. In both cases, the host may
// have executed the command.
type Client struct {
	conn     *nats.Conn
	hostID   string
	timeouts Timeouts
}

// Timeouts bound the commands of a [Client]. A field of 0 has its default. The defaults are the timeouts of
// the wasmCloud operator.
type Timeouts struct {
	// Start is the timeout of a start [default: 60 s, within which a host must reply].
	Start time.Duration
	// Stop is the timeout of a stop [default: 30 s].
	Stop time.Duration
	// Status is the timeout of a status [default: 5 s].
	Status time.Duration
	// Heartbeat is the timeout of a heartbeat request [default: 5 s].
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

// ClientOption configures a [Client].
type ClientOption func(*Client)

// WithTimeouts sets the timeouts of the commands.
func WithTimeouts(timeouts Timeouts) ClientOption {
	return func(c *Client) { c.timeouts = timeouts }
}

// NewClient returns a client for the host with this id. The first command detects whether the host exists.
// NewClient returns [ErrInvalidHostID] if the id is not a valid subject token.
func NewClient(conn *nats.Conn, hostID string, options ...ClientOption) (*Client, error) {
	if !subject.IsToken(hostID) {
		return nil, fmt.Errorf("%w %q", ErrInvalidHostID, reply.Shorten(hostID, 64))
	}
	c := &Client{conn: conn, hostID: hostID}
	for _, option := range options {
		option(c)
	}
	c.timeouts = c.timeouts.withDefaults()
	return c, nil
}

// HostID returns the id of the host.
func (c *Client) HostID() string { return c.hostID }

// Start starts a workload. It returns the state RUNNING or COMPLETED, or STARTING if the start takes longer:
// then poll the state with [Client.Status]. A reply in state ERROR is returned as [ErrRefused], with or
// without a code.
//
// Start is not idempotent. After [ErrTimeout], send the same start again or ask for the status. A refusal
// with [CodeConflict] then means that the first start arrived.
func (c *Client) Start(ctx context.Context, id string, workload *runtimev2.Workload) (Status, error) {
	request := &runtimev2.WorkloadStartRequest{WorkloadId: id, Workload: workload}
	if workload == nil {
		request.Workload = &runtimev2.Workload{}
	}
	status, err := c.command(ctx, subject.Start, c.timeouts.Start, id, request)
	return refusedIfError(c, subject.Start, status, err)
}

// Stop stops a workload. STOPPING acknowledges the stop; NOT_FOUND, from Stop or from [Client.Status],
// confirms that the workload is gone. Stop is idempotent. A reply in state ERROR is returned as [ErrRefused].
func (c *Client) Stop(ctx context.Context, id string) (Status, error) {
	request := &runtimev2.WorkloadStopRequest{WorkloadId: id}
	status, err := c.command(ctx, subject.Stop, c.timeouts.Stop, id, request)
	return refusedIfError(c, subject.Stop, status, err)
}

// Status returns the status of a workload. ERROR and NOT_FOUND are states, not errors. Status returns
// [ErrRefused] only if the host refuses the request itself.
func (c *Client) Status(ctx context.Context, id string) (Status, error) {
	return c.command(ctx, subject.Status, c.timeouts.Status, id, &runtimev2.WorkloadStatusRequest{WorkloadId: id})
}

// Heartbeat requests a heartbeat. A wash host measures its load between two heartbeats, so frequent requests
// distort the measurement. Heartbeat returns [ErrInvalidResponse] also if another host sent the heartbeat.
func (c *Client) Heartbeat(ctx context.Context) (*runtimev2.HostHeartbeat, error) {
	heartbeat := &runtimev2.HostHeartbeat{}
	msg, err := c.request(ctx, subject.Heartbeat, c.timeouts.Heartbeat, []byte("{}"))
	if err == nil {
		if err = wire.Decode(msg.Data, heartbeat); err != nil {
			err = invalidResponse(err.Error())
		} else if heartbeat.Id != c.hostID {
			err = invalidResponse("the heartbeat is from another host")
		}
	}
	if err != nil {
		return nil, c.commandError(subject.Heartbeat, err)
	}
	return heartbeat, nil
}

func (c *Client) command(
	ctx context.Context, command subject.Command, timeout time.Duration, id string, request proto.Message,
) (Status, error) {
	payload, err := Marshal(request)
	if err != nil {
		return Status{}, c.commandError(command, err)
	}
	msg, err := c.request(ctx, command, timeout, payload)
	if err != nil {
		return Status{}, c.commandError(command, err)
	}
	status, err := parseStatus(id, msg)
	if err != nil {
		return Status{}, c.commandError(command, err)
	}
	return status, nil
}

// request sends one request and waits for the first reply.
func (c *Client) request(
	ctx context.Context, command subject.Command, timeout time.Duration, payload []byte,
) (*nats.Msg, error) {
	if !c.conn.IsConnected() {
		return nil, ErrDisconnected
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	msg, err := c.conn.RequestWithContext(bounded, subject.ForCommand(c.hostID, command), payload)
	switch {
	case err == nil:
		return msg, nil
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return nil, fmt.Errorf("%w (%v)", ErrTimeout, timeout)
	case errors.Is(err, nats.ErrNoResponders):
		return nil, ErrNoResponders
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, ErrRequestTooLarge
	default:
		return nil, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
}

func (c *Client) commandError(command subject.Command, err error) error {
	return &CommandError{Command: string(command), HostID: c.hostID, Err: err}
}

// parseStatus returns the status in a reply, if the reply is valid and concerns the id. The replies to
// start, stop and status commands have the same form.
func parseStatus(id string, msg *nats.Msg) (Status, error) {
	response := &runtimev2.WorkloadStatusResponse{}
	if err := wire.Decode(msg.Data, response); err != nil {
		return Status{}, invalidResponse(err.Error())
	}
	status := response.GetWorkloadStatus()
	if status == nil {
		return Status{}, invalidResponse("field `workloadStatus` is missing")
	}
	state := status.GetWorkloadState()
	if code, err := strconv.Atoi(strings.TrimSpace(msg.Header.Get(reply.HeaderCode))); err == nil {
		return Status{}, &RefusedError{Code: code, State: state, Message: status.GetMessage()}
	}
	if state == StateUnspecified {
		return Status{}, invalidResponse("field `workloadStatus.workloadState` is missing")
	}
	if status.GetWorkloadId() != id {
		return Status{}, invalidResponse("the status is of another workload")
	}
	return Status{WorkloadID: id, State: state, Message: status.GetMessage()}, nil
}

// refusedIfError turns the state ERROR in the reply to a start or a stop into a [RefusedError]: hosts without
// codes refuse this way.
func refusedIfError(c *Client, command subject.Command, status Status, err error) (Status, error) {
	if err == nil && status.State == StateError {
		return Status{}, c.commandError(command, &RefusedError{State: status.State, Message: status.Message})
	}
	return status, err
}

func invalidResponse(reason string) error { return fmt.Errorf("%w: %s", ErrInvalidResponse, reason) }
