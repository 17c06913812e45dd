// Command start-once starts a workload on a host, over TLS and with credentials, and makes sure that it is started
// once, whatever is lost on the way.
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
	natsURL := flag.String("nats-url", berth.DefaultServer, "the broker")
	authorities := flag.String("ca", "", "a `file` of the authorities to trust, instead of those of the system")
	certificate := flag.String("cert", "", "a `file` with our certificate, for mutual TLS")
	key := flag.String("key", "", "the `file` with its key")
	credentials := flag.String("creds", "", "a `file` of NATS credentials; it may be rotated")
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

// startOnce starts a workload. Whoever does not know what became of a start, asks.
func startOnce(ctx context.Context, host *berth.Client, id string, workload *runtimev2.Workload) (berth.Status, error) {
	status, err := host.Start(ctx, id, workload)
	refused := (*berth.RefusedError)(nil)
	switch {
	case errors.Is(err, berth.ErrTimeout), errors.Is(err, berth.ErrMalformed):
		// It may have been carried out, or may still be.
		return host.Status(ctx, id)
	case errors.As(err, &refused) && refused.Code == berth.CodeConflict:
		// The id is taken: perhaps by an earlier start of ours.
		return host.Status(ctx, id)
	case errors.Is(err, berth.ErrNoResponders):
		// Nothing was done: another host can take it.
		return status, fmt.Errorf("choose another host: %w", err)
	case errors.Is(err, berth.ErrRefused):
		// The host says why, in words for people.
		return status, err
	case err != nil:
		// ErrDisconnected, ErrTooLarge, ErrRequest: nothing was sent.
		return status, err
	}
	return status, nil // RUNNING, or STARTING and to be asked for with Status
}
