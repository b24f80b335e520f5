/*
 * back/net/none.c - a link without a cable.
 *
 * Runs   on any thread.
 */
#include "back/net/none.h"

#include "base/alloc.h"

enum { MTU_BYTES = 1500 };

static void none_send(struct net *net, const struct net_segment *segments, unsigned count)
{
    net->dropped_count++;
}

static void none_rx_resume(struct net *net)
{
}

static void none_free(struct net *net)
{
    alloc_free(net);
}

static const struct net_ops none_ops = {
    .send = none_send, .rx_resume = none_rx_resume, .free = none_free};

struct net *net_none_new(void)
{
    struct net *net = new0(struct net);
    if (net == NULL)
        return NULL;
    net->ops = &none_ops;
    net->mtu = MTU_BYTES;
    return net;
}
