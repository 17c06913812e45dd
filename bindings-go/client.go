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
	"google.golang.org/protobuf/reflect/protoreflect"

	"berth.dev/go/internal/reply"
	"berth.dev/go/internal/subject"
	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// Client sends commands to one host.
//
// Each command ends with its timeout or with its context, whichever ends first. If the request had been sent, the
// error is of the kind [ErrUnknownOutcome]; it also matches the error and the cause of the context.
type Client struct {
	conn     *nats.Conn
	hostID   string
	timeouts Timeouts
}

// Timeouts bound the commands of a [Client]. A field of 0 or less has its default. The defaults are the timeouts of
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
		if *each.timeout <= 0 {
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
		if option != nil {
			option(c)
		}
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
// Start is not idempotent. After an error of the kind [ErrUnknownOutcome], send the same start again or ask for the
// status. A refusal with [CodeConflict] then means that the first start arrived.
//
// A workload that is nil or has no field set, at any level, is refused with [ErrInvalidRequest]: hosts would run it, as
// a workload that does nothing.
func (c *Client) Start(ctx context.Context, id string, workload *runtimev2.Workload) (Status, error) {
	if isEmpty(workload.ProtoReflect()) {
		return Status{}, c.commandError(subject.Start, fmt.Errorf("%w: the workload is empty", ErrInvalidRequest))
	}
	request := &runtimev2.WorkloadStartRequest{WorkloadId: id, Workload: workload}
	status, err := c.command(ctx, subject.Start, c.timeouts.Start, id, request)
	return refusedIfError(c, subject.Start, status, err)
}

// isEmpty reports whether no field of a message has a value, at any level.
func isEmpty(message protoreflect.Message) bool {
	empty := true
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		empty = field.Message() != nil && !field.IsList() && !field.IsMap() && isEmpty(value.Message())
		return empty
	})
	return empty
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
	switch {
	case err != nil:
	case hasCode(msg):
		_, err = parseStatus("", msg)
	default:
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

// hasCode reports whether a reply refuses the command.
func hasCode(msg *nats.Msg) bool { return msg.Header.Get(reply.HeaderCode) != "" }

func (c *Client) command(
	ctx context.Context, command subject.Command, timeout time.Duration, id string, request proto.Message,
) (Status, error) {
	if id == "" {
		return Status{}, c.commandError(command, fmt.Errorf("%w: the workload id is empty", ErrInvalidRequest))
	}
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

// permissionCheckDelay is how long after a request the client checks whether the broker has denied it. The broker
// reports a denial at once, but not as a reply.
const permissionCheckDelay = time.Second

// request sends one request and waits for the first reply.
func (c *Client) request(
	ctx context.Context, command subject.Command, timeout time.Duration, payload []byte,
) (*nats.Msg, error) {
	if err := c.checkSendable(ctx); err != nil {
		return nil, err
	}
	to := subject.ForCommand(c.hostID, command)
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	earlier := c.conn.LastError()
	check := time.AfterFunc(permissionCheckDelay, func() {
		if c.isDenied(to, earlier) {
			cancel()
		}
	})
	defer check.Stop()
	msg, err := c.conn.RequestWithContext(bounded, to, payload)
	switch {
	case err == nil:
		return msg, nil
	case errors.Is(err, nats.ErrNoResponders):
		return nil, ErrNoResponders
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, ErrRequestTooLarge
	case errors.Is(err, nats.ErrConnectionDraining), errors.Is(err, nats.ErrReconnectBufExceeded):
		return nil, fmt.Errorf("%w: %w", ErrDisconnected, err)
	case c.isDenied(to, earlier):
		return nil, fmt.Errorf("%w: %w", ErrNotPermitted, c.conn.LastError())
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, withContext(ErrTimeout, ctx)
	case ctx.Err() != nil:
		return nil, withContext(ErrUnknownOutcome, ctx)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return nil, c.timedOut(timeout)
	default:
		// The request may have been sent, for example when the connection was closed while it waited.
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

// checkSendable returns an error of the kind [ErrNotSent] if a request cannot be sent now.
func (c *Client) checkSendable(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return withContext(ErrNotSent, ctx)
	case c.conn == nil, c.conn.IsClosed():
		return fmt.Errorf("%w: %w", ErrDisconnected, ErrConnectionClosed)
	case c.conn.IsDraining():
		return fmt.Errorf("%w: %w", ErrDisconnected, nats.ErrConnectionDraining)
	case !c.conn.IsConnected():
		// nats.go would send the request after the next reconnect, long after the caller has given up.
		return ErrDisconnected
	}
	return nil
}

// withContext adds the error and the cause of a context that has ended.
func withContext(err error, ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(ctx.Err(), cause) {
		return fmt.Errorf("%w: %w: %w", err, ctx.Err(), cause)
	}
	return fmt.Errorf("%w: %w", err, ctx.Err())
}

// isDenied reports whether the broker has denied the subject since the earlier error of the connection.
func (c *Client) isDenied(subject string, earlier error) bool {
	err := c.conn.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && err != earlier &&
		strings.Contains(err.Error(), `Publish to "`+subject+`"`)
}

// timedOut returns [ErrTimeout]. A broker that denies the subscription of the replies is the likely reason.
func (c *Client) timedOut(timeout time.Duration) error {
	err := c.conn.LastError()
	if errors.Is(err, nats.ErrPermissionViolation) && !strings.Contains(err.Error(), subject.Discover) {
		return fmt.Errorf("%w (%v): %w", ErrTimeout, timeout, err)
	}
	return fmt.Errorf("%w (%v)", ErrTimeout, timeout)
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
