/*
 * back/display/listen.c - where a VNC server listens, as people write it.
 *
 * Runs   on the main thread.
 * Trust  the address is the user's own.
 */
#include "back/display/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/fd.h"

enum { PORT_BASE = 5900, DISPLAY_MAX = 65535 - PORT_BASE, BACKLOG = 8 };

static int address_parse(const char *address, struct sockaddr_in *ret_address, struct err *err)
{
    const char *colon = strrchr(address, ':');
    char host[INET_ADDRSTRLEN] = "127.0.0.1", *end;

    *ret_address = (struct sockaddr_in){.sin_family = AF_INET};
    if (colon == NULL || (size_t)(colon - address) >= sizeof(host))
        goto fail;
    if (colon != address) {
        memcpy(host, address, (size_t)(colon - address));
        host[colon - address] = 0;
    }
    errno = 0;
    unsigned long number = strtoul(colon + 1, &end, 10);
    if (errno != 0 || colon[1] < '0' || colon[1] > '9' || *end != 0 || number > DISPLAY_MAX)
        goto fail;
    if (inet_pton(AF_INET, host, &ret_address->sin_addr) != 1)
        goto fail;
    ret_address->sin_port = htons((u16)(PORT_BASE + number));
    return 0;
fail:
    return err_set(err, -EINVAL,
                   "VNC address '%s': give unix:PATH, or [ADDRESS]:N for TCP port 5900 + N: :1, "
                   "192.168.1.2:5",
                   address);
}

int listen_check(const char *address, struct err *err)
{
    struct sockaddr_in ignored;

    if (strncmp(address, "unix:", 5) == 0 && address[5] != 0)
        return 0;
    return address_parse(address, &ignored, err);
}

static int listen_tcp(const char *text, bool has_password, struct err *err)
{
    struct sockaddr_in address;
    const int on = 1;

    int r = address_parse(text, &address, err);
    if (r < 0)
        return r;
    if (!has_password && ntohl(address.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
        return err_set(err, -EPERM,
                       "VNC at '%s': others could look and type: give a password, or listen on "
                       "this host only (:N, or unix:PATH)",
                       text);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fd, BACKLOG) != 0) {
        r = -errno;
        fd_close(&fd);
        return err_set(err, r, "VNC at '%s' (port %u): %s%s", text, ntohs(address.sin_port),
                       strerror(-r), r == -EADDRINUSE ? "; choose another number" : "");
    }
    return fd;
}

int listen_at(const char *address, bool has_password, char ret_path[LISTEN_PATH_BYTES],
              struct err *err)
{
    ret_path[0] = 0;
    if (strncmp(address, "unix:", 5) != 0)
        return listen_tcp(address, has_password, err);
    int fd = fd_listen(address + 5, err);
    if (fd < 0)
        return fd;
    strncpy(ret_path, address + 5, LISTEN_PATH_BYTES - 1);
    ret_path[LISTEN_PATH_BYTES - 1] = 0;
    int r = fd_set_nonblock(fd);
    if (r == 0)
        return fd;
    fd_close(&fd);
    return err_set(err, r, "VNC at '%s': %s", address, strerror(-r));
}
