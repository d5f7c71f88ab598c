package testcluster

import "syscall"

// hasExtendedAttributes tells whether files in a folder can carry attributes of
// their own, which not every file system (or older tmpfs) offers.
func hasExtendedAttributes(folder string) bool {
	return syscall.Setxattr(folder, "user.afterimage-probe", []byte("1"), 0) == nil
}
