package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/afterimage-dr/afterimage/consumers/audit"
	"github.com/afterimage-dr/afterimage/internal/history"
	"github.com/afterimage-dr/afterimage/topology"
)

// auditFlags is what audit is told.
type auditFlags struct {
	log                    logFlags
	since, until           string
	object, namespace      string
	under                  string
	op, by, format         string
	diff, follow           bool
	sinceMoment, untilTime time.Time
}

func auditCommand() *cobra.Command {
	var f auditFlags
	c := &cobra.Command{
		Use:   "audit",
		Short: "Tell who changed what in the source, and what became of it",
		Long: `Audit reads the log and tells every change of the source, in order: which object,
what was changed field by field, by which field manager and when, when it was
observed and logged, and when it was applied to the destination with which result.

It needs neither cluster, and works beside a running afterimage or without one.

Of Secrets only names, labels and types are shown; values, and annotations, which
often repeat them, appear as hashes: one sees that a value changed, and not what to.

The log of a ZooKeeper tree is told alike: --object and --under name nodes by their
paths, and nobody knows who it was. Data of a node that not everybody may read, and
the hashes of passwords in access control lists, appear as hashes too.

Who deleted an object is not known: the API server does not say. Times at which
nobody watched the source are shown as a gap. How far back the log reaches is a
matter of the audit window (7 days), or of the embedded log's last cleaning.

With -o json each change is one line of JSON, with -o yaml a document of its own.`,
		Example: `  afterimage audit --since 2h
  afterimage audit --object deployments.apps/shop/web --diff
  afterimage audit --object core/v1/configmaps/shop/settings -o yaml
  afterimage audit --namespace shop --op delete --since 2026-01-02T15:00:00Z
  afterimage audit --by kubectl-edit --follow
  afterimage audit -f manifests/ --livesync live-zookeeper --under /app/config --diff`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(time.Now()); err != nil {
				return err
			}
			ctx, cancel := signals(c.Context())
			defer cancel()
			err := f.run(ctx, c.OutOrStdout())
			if f.follow && ctx.Err() != nil {
				return nil // told to stop
			}
			return err
		},
	}
	c.Flags().StringVar(&f.since, "since", "", "changes from this moment on: RFC 3339, or a duration ago (2h)")
	c.Flags().StringVar(&f.until, "until", "", "changes up to this moment: RFC 3339, or a duration ago")
	c.Flags().StringVar(&f.object, "object", "", "one object: RESOURCE[.GROUP]/NAMESPACE/NAME, RESOURCE[.GROUP]/NAME where it has no namespace, or GROUP/VERSION/RESOURCE/NAMESPACE/NAME with group \"core\", or the path of a znode")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "objects of this namespace, and the namespace itself")
	c.Flags().StringVar(&f.under, "under", "", "PATH of a znode: it and all below it")
	c.Flags().StringVar(&f.op, "op", "", "create, update or delete")
	c.Flags().StringVar(&f.by, "by", "", "changes this field manager had a part in")
	c.Flags().StringVarP(&f.format, "output", "o", "table", "table, json or yaml")
	c.Flags().BoolVar(&f.diff, "diff", false, "show old and new values (and with -o json or yaml the objects created and deleted)")
	c.Flags().BoolVar(&f.follow, "follow", false, "go on with what comes, until interrupted")
	f.log.add(c)
	return c
}

func (f *auditFlags) check(now time.Time) error {
	var err error
	if f.sinceMoment, err = momentFlag("--since", f.since, now); err != nil {
		return err
	}
	if f.untilTime, err = momentFlag("--until", f.until, now); err != nil {
		return err
	}
	switch {
	case !f.untilTime.IsZero() && f.untilTime.Before(f.sinceMoment):
		return usageError{fmt.Errorf("--until %s is before --since %s", f.until, f.since)}
	case f.follow && f.until != "":
		return usageError{errors.New("--follow goes on for ever, --until does not: want one of them")}
	case f.object != "" && f.namespace != "":
		return usageError{errors.New("--object names its namespace itself: want it or --namespace")}
	case f.under != "" && f.object+f.namespace != "":
		return usageError{errors.New("--under names nodes of ZooKeeper, --namespace objects of Kubernetes, --object one of either: want one of them")}
	case f.op != "" && !slices.Contains([]topology.Op{topology.Create, topology.Update, topology.Delete}, topology.Op(f.op)):
		return usageError{fmt.Errorf("--op %q: want create, update or delete", f.op)}
	case !slices.Contains([]string{"table", "json", "yaml"}, f.format):
		return usageError{fmt.Errorf("--output %q: want table, json or yaml", f.format)}
	}
	if f.object != "" {
		if _, _, err := objectFlag(f.object); err != nil {
			return err
		}
	}
	if f.under != "" {
		if err := topology.ValidNodePath(f.under); err != nil {
			return usageError{fmt.Errorf("--under %w", err)}
		}
	}
	return f.log.check()
}

// momentFlag reads RFC 3339 or a duration ago.
func momentFlag(name, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("%s %q: want RFC 3339 (2026-01-02T15:04:05Z) or a duration ago (2h)", name, s)}
	}
	return t, nil
}

// objectFlag reads --object; short tells that the version is still to be found.
func objectFlag(s string) (key topology.Key, short bool, err error) {
	if strings.HasPrefix(s, "/") {
		if err := topology.ValidNodePath(s); err != nil {
			return key, false, usageError{fmt.Errorf("--object %w", err)}
		}
		return topology.NodeKey(s), false, nil
	}
	if _, ok := topology.NodePath(s); ok {
		key, err = topology.ParseKey(s)
		return key, false, err
	}
	bad := usageError{fmt.Errorf("--object %q: want RESOURCE[.GROUP]/NAMESPACE/NAME, RESOURCE[.GROUP]/NAME or GROUP/VERSION/RESOURCE/NAMESPACE/NAME", s)}
	parts := strings.Split(s, "/")
	switch len(parts) {
	case 5:
		if parts[0] == "" {
			parts[0] = "core"
		}
		if key, err = topology.ParseKey(strings.Join(parts, "/")); err != nil {
			return key, false, bad
		}
		return key, false, nil
	case 2, 3:
		key.Resource, key.Group, _ = strings.Cut(parts[0], ".")
		key.Name = parts[len(parts)-1]
		if len(parts) == 3 {
			key.Namespace = parts[1]
		}
		if slices.Contains(parts, "") || key.Resource == "" {
			return key, false, bad
		}
		return key, true, nil
	}
	return key, false, bad
}

// find completes the key of an object from the configuration in the log.
func find(ctx context.Context, log history.Log, s string) (string, error) {
	key, short, err := objectFlag(s)
	if err != nil || !short {
		return key.String(), err
	}
	config, err := log.Config(ctx)
	if err != nil {
		return "", err
	}
	var fit, known []string
	for _, r := range config.Replication.Resources {
		name := strings.TrimSuffix(r.Resource+"."+r.Group, ".")
		if !slices.Contains(known, name) {
			known = append(known, name)
		}
		if r.Resource == key.Resource && (key.Group == "" || r.Group == key.Group) {
			k := key
			k.Group, k.Version = r.Group, r.Version
			if !slices.Contains(fit, k.String()) {
				fit = append(fit, k.String())
			}
		}
	}
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		return "", fmt.Errorf("--object %s: no such resource is replicated (only %s); one that was replicated before can be named as GROUP/VERSION/RESOURCE/NAMESPACE/NAME", s, strings.Join(known, ", "))
	}
	return "", usageError{fmt.Errorf("--object %s may be any of %s: name one of them", s, strings.Join(fit, ", "))}
}

func (f *auditFlags) run(ctx context.Context, out io.Writer) error {
	access, log, err := f.log.open(ctx)
	if err != nil {
		return err
	}
	defer access.Close()
	if err := f.fits(log.Topics); err != nil {
		return err
	}
	q := audit.Query{
		Since: f.sinceMoment, Until: f.untilTime, Namespace: f.namespace, Under: f.under, Op: topology.Op(f.op), By: f.by,
		Values: f.diff && f.format != "table",
	}
	if f.object != "" {
		if q.Object, err = find(ctx, log, f.object); err != nil {
			return err
		}
	}
	p := f.printer(out)
	a := audit.Audit{Client: log.Client, Topics: log.Topics}
	if f.follow {
		err = a.Follow(ctx, q, p.change)
	} else {
		err = a.Run(ctx, q, p.change)
	}
	return errors.Join(err, p.end())
}

// fits refuses what the log of a ZooKeeper tree cannot be asked for.
func (f *auditFlags) fits(t topology.Topics) error {
	if !t.OfNodes() {
		return nil
	}
	switch {
	case f.by != "":
		return usageError{errors.New("--by: ZooKeeper does not keep who changed a node")}
	case f.namespace != "":
		return usageError{errors.New("--namespace: the log holds nodes of ZooKeeper, which have none: name a path with --under")}
	case f.object != "" && !strings.HasPrefix(f.object, "/"):
		if _, ok := topology.NodePath(f.object); !ok {
			return usageError{fmt.Errorf("--object %s: the log holds nodes of ZooKeeper: want a path such as /app/config", f.object)}
		}
	}
	return nil
}

// printer writes changes as they come.
type printer struct {
	change func(*audit.Change) error
	end    func() error
}

func (f *auditFlags) printer(out io.Writer) printer {
	none := func() error { return nil }
	switch f.format {
	case "json":
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return printer{func(c *audit.Change) error { return e.Encode(c) }, none}
	case "yaml":
		return printer{func(c *audit.Change) error {
			b, err := yaml.Marshal(c)
			if err == nil {
				_, err = fmt.Fprintf(out, "---\n%s", b)
			}
			return err
		}, none}
	}
	t := &auditTable{out: out, diff: f.diff, flushEach: f.follow}
	return printer{t.add, t.end}
}
