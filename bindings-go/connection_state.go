package berth

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// connectionState is the state of a connection at one moment.
type connectionState struct {
	connected bool
	// generation grows with each reconnect.
	generation uint64
}

// connectionPollInterval is the time between two checks of a connection. [nats.Conn.StatusChanged] is not an
// alternative, because it drops a listener that is one event behind. Nor are the connection's reconnect and
// disconnect handlers, because the owner of the connection may have set them.
const connectionPollInterval = 100 * time.Millisecond

func connectionStateOf(conn *nats.Conn) connectionState {
	// The generation is read first, so that the next check detects a reconnect between the two reads.
	generation := conn.Stats().Reconnects
	return connectionState{conn.IsConnected(), generation}
}

// waitForConnection waits until the state of the connection meets a condition. It returns false if ctx ends
// or the connection is closed first.
func waitForConnection(ctx context.Context, conn *nats.Conn, condition func(connectionState) bool) bool {
	ticker := time.NewTicker(connectionPollInterval)
	defer ticker.Stop()
	for {
		if ctx.Err() != nil || conn.IsClosed() {
			return false
		}
		if condition(connectionStateOf(conn)) {
			return true
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}
