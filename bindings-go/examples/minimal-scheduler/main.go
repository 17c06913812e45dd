// A scheduler that starts one workload on the first host it sees, watches it, and stops it.
//
//	go run berth.dev/go/examples/minimal-scheduler nats://127.0.0.1:4222
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

func main() {
	ctx := context.Background()
	conn, err := berth.Connect(ctx, berth.ConnectOptions{
		Servers: []string{strings.Join(os.Args[1:], ",")},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fleet, err := berth.WatchFleet(ctx, conn)
	if err != nil {
		log.Fatal(err)
	}
	defer fleet.Close()
	for event := range fleet.Events(ctx) {
		if joined, ok := event.(berth.HostJoined); ok {
			fmt.Println(joined.Host.Heartbeat.FriendlyName, "joined as", joined.Host.ID())
			if err := demo(ctx, fleet, joined.Host.ID()); err != nil {
				log.Fatal(err)
			}
			return
		}
	}
}

func demo(ctx context.Context, fleet *berth.Fleet, hostID string) error {
	host, err := fleet.Client(hostID)
	if err != nil {
		return err
	}
	status, err := host.Start(ctx, "demo-1", &runtimev2.Workload{})
	for err == nil && status.State != berth.StateNotFound {
		fmt.Println(status.WorkloadID, "is", status.State)
		if status.State == berth.StateRunning {
			status, err = host.Stop(ctx, "demo-1")
		} else {
			status, err = host.Status(ctx, "demo-1")
		}
	}
	return err
}
