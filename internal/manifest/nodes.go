package manifest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// nodes checks what a configuration of the plugin zookeeper-to-zookeeper-nodes
// names and asks for.
func (c *checker) nodes(it *item, a *automation) Errors {
	config := a.config
	errs := c.references(it, a,
		reference{"sourceName", v1alpha1.KindDatabase, config.SourceName},
		reference{"destinationName", v1alpha1.KindDatabase, config.DestinationName})
	source, destination := c.ensembles[a.asset(config.SourceName)], c.ensembles[a.asset(config.DestinationName)]
	root := config.Root()
	for _, side := range []*ensemble.Options{source, destination} {
		if side != nil && inside(treeOf(side, root), reservedTree) {
			errs = append(errs, it.errorAt(a.path.Child("rootPath").String(), fmt.Sprintf("Invalid value: %q: expected a path outside of /zookeeper, which is ZooKeeper's own", config.RootPath)))
			break
		}
	}
	if source != nil && destination != nil && overlap(source, destination, root, root) {
		errs = append(errs, it.errorAt(a.path.Child("destinationName").String(), fmt.Sprintf(
			"Database %s and Database %s (sourceName) lead to the same tree of the same ensemble, %s%s: expected two ensembles, or two trees of one that do not overlap",
			config.DestinationName, config.SourceName, strings.Join(destination.Servers, ","), treeOf(destination, root))))
	}
	return append(errs, it.fieldErrors(ValidateConfig(config, a.path))...)
}

// validateNodes checks what needs no other object.
func validateNodes(config *v1alpha1.LiveSynchronizationConfig, at *field.Path) field.ErrorList {
	at = at.Child("excludePathRegexp")
	excluded, err := config.Exclusion()
	if err != nil {
		return field.ErrorList{field.Invalid(at, config.ExcludePathRegexp, err.Error())}
	}
	if excluded(config.Root()) {
		return field.ErrorList{field.Invalid(at, config.ExcludePathRegexp, "expected an expression that does not match rootPath ("+config.Root()+") itself: nothing would be synchronized; it is searched for anywhere in a path unless it has ^ and $")}
	}
	return nil
}

// treeOf is a path with the chroot of its ensemble before it.
func treeOf(o *ensemble.Options, root string) string { return path.Join("/", o.Chroot, root) }

// overlap tells whether two trees have nodes in common. Ensembles that have a
// server in common are one.
func overlap(a, b *ensemble.Options, rootA, rootB string) bool {
	treeA, treeB := treeOf(a, rootA), treeOf(b, rootB)
	return (inside(treeA, treeB) || inside(treeB, treeA)) && slices.ContainsFunc(a.Servers, func(server string) bool {
		return slices.ContainsFunc(b.Servers, func(other string) bool { return strings.EqualFold(server, other) })
	})
}

// shareTrees refuses a LiveSynchronization and another that write the same nodes:
// each would undo what the other does, and where both copy the same tree, the runs of
// the other would never get their turn. Suspended ones count: a suspended
// LiveSynchronization works on its tree all the same, and a plan may be resumed.
func (c *checker) shareTrees() Errors {
	var errs Errors
	var writers []*item
	for _, it := range c.order {
		a := automationOf(it)
		if a == nil || a.plugin != v1alpha1.PluginZooKeeper {
			continue
		}
		for _, other := range writers {
			if detail := c.collision(it, other); detail != "" {
				errs = append(errs, it.errorAt(a.path.Child("rootPath").String(), detail))
				break
			}
		}
		writers = append(writers, it)
	}
	return errs
}

// collision says why two items cannot be together; empty where they can.
func (c *checker) collision(it, other *item) string {
	mine, theirs := automationOf(it), automationOf(other)
	if it.live == nil && other.live == nil {
		return "" // runs end, and say what they did
	}
	target, theirTarget := c.ensembles[mine.asset(mine.config.DestinationName)], c.ensembles[theirs.asset(theirs.config.DestinationName)]
	root, theirRoot := mine.config.Root(), theirs.config.Root()
	if target == nil || theirTarget == nil {
		return ""
	}
	bothLive := it.live != nil && other.live != nil
	if overlap(target, theirTarget, root, theirRoot) {
		why := "since each would undo what the other does"
		if !bothLive {
			why = "since the LiveSynchronization works on its nodes all the time; to copy them once, run \"afterimage sync\" with its name while it does not run"
		}
		return fmt.Sprintf("%s %s (%s) writes to %s in the same ensemble: expected trees that do not overlap, %s",
			other.kind, other.key, other.file, treeOf(theirTarget, theirRoot), why)
	}
	source, theirSource := c.ensembles[mine.asset(mine.config.SourceName)], c.ensembles[theirs.asset(theirs.config.SourceName)]
	if bothLive && source != nil && theirSource != nil && overlap(target, theirSource, root, theirRoot) && overlap(source, theirTarget, root, theirRoot) {
		return fmt.Sprintf("%s %s (%s) synchronizes the same nodes in the other direction: expected one direction, since changes would go in circles", other.kind, other.key, other.file)
	}
	return ""
}

// asset is the key of an asset that the automation names.
func (a *automation) asset(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: a.namespace, Name: name}
}
