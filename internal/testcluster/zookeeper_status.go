package testcluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// ZooKeeperStatus is what a server says of itself.
type ZooKeeperStatus struct {
	// Mode is standalone, leader or follower.
	Mode string
	// Zxid is of the last change applied. Besides writes, the begin and the end of a
	// session count as changes.
	Zxid int64
	// Nodes counts all znodes, those of ZooKeeper itself included.
	Nodes int64
	// Connections of clients, that which asks among them.
	Connections int64
	// Received packets of clients.
	Received int64
}

// Status asks the server; it is an error if it serves no clients now.
func (z *ZooKeeper) Status(ctx context.Context) (ZooKeeperStatus, error) {
	answer, err := z.ask(ctx, "srvr")
	if err != nil {
		return ZooKeeperStatus{}, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(answer) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		fields[name] = value
	}
	status := ZooKeeperStatus{Mode: fields["Mode"]}
	if status.Mode == "" {
		return status, fmt.Errorf("%s does not serve: %s", z.name(), strings.TrimSpace(answer))
	}
	if status.Zxid, err = strconv.ParseInt(fields["Zxid"], 0, 64); err != nil {
		return status, fmt.Errorf("%s: reading the zxid: %w", z.name(), err)
	}
	if status.Nodes, err = strconv.ParseInt(fields["Node count"], 10, 64); err != nil {
		return status, fmt.Errorf("%s: reading the number of nodes: %w", z.name(), err)
	}
	if status.Connections, err = strconv.ParseInt(fields["Connections"], 10, 64); err != nil {
		return status, fmt.Errorf("%s: reading the number of connections: %w", z.name(), err)
	}
	if status.Received, err = strconv.ParseInt(fields["Received"], 10, 64); err != nil {
		return status, fmt.Errorf("%s: reading the number of packets: %w", z.name(), err)
	}
	return status, nil
}

// ask sends a four letter command. A server that is frozen costs a second.
func (z *ZooKeeper) ask(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", z.Addr())
	if err != nil {
		return "", fmt.Errorf("asking %s: %w", z.name(), err)
	}
	defer func() { _ = connection.Close() }()
	deadline, _ := ctx.Deadline()
	if err := connection.SetDeadline(deadline); err != nil {
		return "", fmt.Errorf("asking %s: %w", z.name(), err)
	}
	if _, err := io.WriteString(connection, command); err != nil {
		return "", fmt.Errorf("asking %s: %w", z.name(), err)
	}
	answer, err := io.ReadAll(connection)
	if err != nil {
		return "", fmt.Errorf("asking %s: %w", z.name(), err)
	}
	return string(answer), nil
}

// Writes counts the changes that clients made since some moment before the server
// was started: differences tell how many. The beginnings and ends of sessions,
// which have a zxid as well, are not counted. For a server that is alone and is not
// started again in between.
func (z *ZooKeeper) Writes(ctx context.Context) (int64, error) {
	status, err := z.Status(ctx)
	if err != nil {
		return 0, err
	}
	answer, err := z.ask(ctx, "mntr")
	if err != nil {
		return 0, err
	}
	begun, err := metric(answer, "zk_connection_request_count")
	if err != nil {
		return 0, fmt.Errorf("%s: %w", z.name(), err)
	}
	open, err := metric(answer, "zk_global_sessions")
	if err != nil {
		return 0, fmt.Errorf("%s: %w", z.name(), err)
	}
	ended := begun - open
	return status.Zxid - begun - ended, nil
}

// metric is one of the lines of mntr, a name and a number.
func metric(answer, name string) (int64, error) {
	for line := range strings.Lines(answer) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("mntr has no %s", name)
}
