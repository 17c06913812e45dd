// Command script-host is an example of a host that runs something else than WebAssembly: its images are
// scripts, its services are processes. It pulls, runs, restarts and stops them, and passes the profiles core,
// services and resilience of the conformance suite.
//
//	go run berth.dev/go/examples/script-host --nats-url nats://127.0.0.1:4222
//
// It is for reading, not for production: nothing keeps a script from doing what this process may do.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	berth "berth.dev/go"
)

func main() {
	natsURL := flag.String("nats-url", berth.DefaultServer, "the broker")
	credentials := flag.String("nats-creds", "", "a `file` of NATS credentials")
	insecure := flag.String("insecure-registry", "", "`hosts` whose registries are spoken to in plain HTTP, with commas between")
	flag.Parse()
	if err := run(*natsURL, *credentials, strings.Split(*insecure, ",")); err != nil {
		slog.Error("the host cannot be served", "error", err)
		os.Exit(1)
	}
}

func run(natsURL, credentials string, insecure []string) error {
	// SIGTERM and SIGINT end Serve, which unsubscribes and then stops everything.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	conn, err := berth.ConnectEventually(berth.ConnectOptions{
		Servers: []string{natsURL}, CredentialsFile: credentials, Name: "script-host",
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	host, err := newHost(insecure)
	if err != nil {
		return err
	}
	return berth.Serve(ctx, conn, host)
}
