/*
 * back/net/tap.c - a tap interface of the host.
 *
 * Spec   Linux Documentation/networking/tuntap.rst
 * Runs   on the loop; sends on any thread under the device's lock.
 */
#include "back/net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back/net/frames.h"
#include "base/alloc.h"
#include "host/fault.h"
#include "host/fd.h"

enum { VNET_HEADER_BYTES = 12, MTU_DEFAULT_BYTES = 1500 };

struct net_tap {
    struct net net;
    struct frames frames;
    int fd; /* owned */
};

static void tap_send(struct net *net, const struct net_segment *segments, unsigned count)
{
    frames_send(&container_of(net, struct net_tap, net)->frames, segments, count);
}

static void tap_rx_resume(struct net *net)
{
    frames_rx_resume(&container_of(net, struct net_tap, net)->frames);
}

static void tap_offload(struct net *net, u32 offloads)
{
    struct net_tap *tap = container_of(net, struct net_tap, net);
    unsigned long bits = (offloads & NET_OFFLOAD_CSUM ? TUN_F_CSUM : 0) |
                         (offloads & NET_OFFLOAD_TSO4 ? TUN_F_TSO4 : 0) |
                         (offloads & NET_OFFLOAD_TSO6 ? TUN_F_TSO6 : 0) |
                         (offloads & NET_OFFLOAD_ECN ? TUN_F_TSO_ECN : 0);
    /* The kernel refuses a set in which one bit lacks another that it needs: then none is used. */
    if (!(bits & TUN_F_CSUM) || ioctl(tap->fd, TUNSETOFFLOAD, bits) != 0)
        (void)ioctl(tap->fd, TUNSETOFFLOAD, 0);
}

static void tap_free(struct net *net)
{
    struct net_tap *tap = container_of(net, struct net_tap, net);
    frames_fini(&tap->frames);
    fd_close(&tap->fd);
    alloc_free(tap);
}

static const struct net_ops tap_ops = {
    .send = tap_send, .rx_resume = tap_rx_resume, .offload = tap_offload, .free = tap_free};

static int tap_attach(struct net_tap *tap, const char *name, struct err *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int header_bytes = VNET_HEADER_BYTES;

    if (name[0] == '\0' || strlen(name) >= sizeof(request.ifr_name))
        return err_set(err, -EINVAL, "tap '%s': an interface's name has 1 to %zu characters", name,
                       sizeof(request.ifr_name) - 1);
    memcpy(request.ifr_name, name, strlen(name));
    tap->fd = fd_open("/dev/net/tun", O_RDWR | O_NONBLOCK, 0);
    if (tap->fd < 0)
        return err_set(err, tap->fd,
                       "tap '%s': /dev/net/tun: %s; load the module 'tun', or see its "
                       "owner and mode",
                       name, strerror(-tap->fd));
    int result = host_fault(FAULT_SOCKET);
    if (result == 0 && ioctl(tap->fd, TUNSETIFF, &request) != 0)
        result = -errno;
    if (result == -EPERM)
        return err_set(
            err, result,
            "tap '%s': not yours; root makes one for you with 'ip tuntap add dev %s mode "
            "tap user $USER'",
            name, name);
    if (result == -EBUSY)
        return err_set(err, result, "tap '%s': another VM uses it", name);
    if (result == 0 && (ioctl(tap->fd, TUNSETVNETHDRSZ, &header_bytes) != 0 ||
                        ioctl(tap->fd, TUNSETOFFLOAD, 0) != 0))
        result = -errno;
    return result == 0 ? 0 : err_set(err, result, "tap '%s': %s", name, strerror(-result));
}

static u16 tap_mtu(const char *name)
{
    struct ifreq request = {0};
    int mtu = MTU_DEFAULT_BYTES;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return MTU_DEFAULT_BYTES;
    memcpy(request.ifr_name, name, strlen(name));
    if (ioctl(fd, SIOCGIFMTU, &request) == 0)
        mtu = request.ifr_mtu;
    close(fd);
    return mtu >= 68 && mtu <= 65535 ? (u16)mtu : MTU_DEFAULT_BYTES;
}

struct net *net_tap_new(struct loop *loop, const char *name, struct err *err)
{
    struct net_tap *tap = new0(struct net_tap);
    if (tap == NULL) {
        err_set(err, -ENOMEM, "tap '%s': out of memory", name);
        return NULL;
    }
    tap->fd = -1;
    tap->net.ops = &tap_ops;
    tap->net.vnet_header = true;
    if (tap_attach(tap, name, err) != 0)
        goto fail;
    tap->net.mtu = tap_mtu(name);
    tap->frames.net = &tap->net;
    tap->frames.loop = loop;
    int result = frames_init(&tap->frames, tap->fd);
    if (result != 0) {
        err_set(err, result, "tap '%s': %s", name, strerror(-result));
        goto fail;
    }
    return &tap->net;
fail:
    tap_free(&tap->net);
    return NULL;
}
