// Command minimal-host is a host that implements the whole protocol and runs nothing.
//
//	go run berth.dev/go/examples/minimal-host nats://127.0.0.1:4222
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	berth "berth.dev/go"
)

type minimal struct{}

func (minimal) Describe() berth.Description {
	return berth.Description{
		Hostname:     "localhost",
		FriendlyName: fmt.Sprintf("minimal-%d", os.Getpid()),
		Version:      "0.1.0",
		Labels:       map[string]string{"hostgroup": "minimal"},
	}
}

func (minimal) Start(_ context.Context, request berth.StartRequest) (berth.Instance, error) {
	if request.Workload.Service != nil {
		return nil, &berth.StartError{Message: "this host runs no services"}
	}
	stop := func(context.Context) { fmt.Printf("stopped %q\n", request.ID) }
	return berth.StopFunc(stop), nil
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	conn, err := berth.ConnectWithRetry(berth.ConnectOptions{Servers: os.Args[1:]})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := berth.Serve(ctx, conn, minimal{}); err != nil {
		log.Fatal(err)
	}
}
