// Command start-once starts a workload on a host, over TLS and with credentials. The workload is started once, even
// if a reply is lost.
//
//	go run berth.dev/go/examples/start-once --nats-url tls://nats.example:4222 --ca ca.pem --creds me.creds HOST ID IMAGE
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"time"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

func main() {
	natsURL := flag.String("nats-url", berth.DefaultServer, "NATS server `URL`")
	authorities := flag.String("ca", "", "`file` of CA certificates (PEM), instead of the system roots")
	certificate := flag.String("cert", "", "`file` of the client certificate (PEM), for mutual TLS")
	key := flag.String("key", "", "`file` of the client key (PEM)")
	credentials := flag.String("creds", "", "NATS credentials `file`; it may be rotated")
	timeout := flag.Duration("timeout", time.Minute, "`duration` after which the start is abandoned")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	conn, err := berth.Connect(ctx, berth.ConnectOptions{
		Servers:         []string{*natsURL},
		TLSCAFile:       *authorities,
		TLSCertFile:     *certificate,
		TLSKeyFile:      *key,
		CredentialsFile: *credentials,
	})
	if err != nil {
		log.Fatal(err)
	}
	host, err := berth.NewClient(conn, flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	service := &runtimev2.Service{Image: flag.Arg(2)}
	status, err := startOnce(ctx, host, flag.Arg(1), &runtimev2.Workload{Service: service})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.WorkloadID, "is", status.State)
}

// statusTimeout bounds the question for the outcome of a start, also when the context of the start has ended.
const statusTimeout = 5 * time.Second

// startOnce starts a workload. If the outcome is unknown, it asks the host for the status. It returns an error unless
// the host has the workload; an error that matches berth.ErrUnknownOutcome means that the host may still start it.
func startOnce(ctx context.Context, host *berth.Client, id string, workload *runtimev2.Workload) (berth.Status, error) {
	status, err := host.Start(ctx, id, workload)
	refused := (*berth.RefusedError)(nil)
	isConflict := errors.As(err, &refused) && refused.Code == berth.CodeConflict
	switch {
	case err == nil:
		return status, nil // RUNNING or COMPLETED, or STARTING: poll it with Status
	case errors.Is(err, berth.ErrNoResponders):
		return status, fmt.Errorf("choose another host: %w", err)
	case !isConflict && !errors.Is(err, berth.ErrUnknownOutcome):
		return status, err // berth.ErrNotSent or berth.ErrRefused: the host does not have the workload
	}
	// This start, or an earlier one of the id, may have been executed. The context may have ended with the start.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
	defer cancel()
	status, statusErr := host.Status(asking, id)
	switch {
	case statusErr != nil:
		return status, fmt.Errorf("%w; asked for the status: %w", err, statusErr)
	case status.State == berth.StateStarting, status.State == berth.StateRunning, status.State == berth.StateCompleted:
		return status, nil
	}
	// NOT_FOUND means that the start is lost or late: send the same start again.
	return status, fmt.Errorf("the workload is %s %s: %w", status.State, status.Message, err)
}
