/*
 * cli/vm_folder.h - where the sockets of this user's running VMs are:
 * $XDG_RUNTIME_DIR/atoll/NAME/, or /tmp/atoll-UID/NAME/ where there is no such variable.
 */
#ifndef CLI_VM_FOLDER_H
#define CLI_VM_FOLDER_H

#include "base/err.h"
#include "base/types.h"

enum { VM_FOLDER_PATH_BYTES = 108 }; /* what a socket's address has room for */

/* The screen's socket of the VM NAME. With MAKES the folder is made when it is not there; a folder
 * that belongs to somebody else is refused. */
MUST_CHECK int vm_folder_screen(const char *name, bool makes, char ret_path[VM_FOLDER_PATH_BYTES],
                                struct err *err);

#endif
