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

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

func main() {
	natsURL := flag.String("nats-url", berth.DefaultServer, "NATS server `URL`")
	authorities := flag.String("ca", "", "`file` of CA certificates (PEM), instead of the system roots")
	certificate := flag.String("cert", "", "`file` of the client certificate (PEM), for mutual TLS")
	key := flag.String("key", "", "`file` of the client key (PEM)")
	credentials := flag.String("creds", "", "NATS credentials `file`; it may be rotated")
	flag.Parse()

	ctx := context.Background()
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
	defer conn.Close()
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

// startOnce starts a workload. If the outcome is unknown, it asks the host for the status.
func startOnce(ctx context.Context, host *berth.Client, id string, workload *runtimev2.Workload) (berth.Status, error) {
	status, err := host.Start(ctx, id, workload)
	refused := (*berth.RefusedError)(nil)
	switch {
	case errors.Is(err, berth.ErrTimeout), errors.Is(err, berth.ErrInvalidResponse):
		// The start may have been executed, or may still be executed.
		return host.Status(ctx, id)
	case errors.As(err, &refused) && refused.Code == berth.CodeConflict:
		// The id is in use, perhaps by an earlier attempt.
		return host.Status(ctx, id)
	case errors.Is(err, berth.ErrNoResponders):
		// Nothing was done: another host can run the workload.
		return status, fmt.Errorf("choose another host: %w", err)
	case errors.Is(err, berth.ErrRefused):
		// The message explains the refusal.
		return status, err
	case err != nil:
		// ErrDisconnected, ErrRequestTooLarge, ErrEncode: nothing was sent.
		return status, err
	}
	return status, nil // RUNNING or COMPLETED, or STARTING: poll it with Status
}
