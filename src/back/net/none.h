/*
 * back/net/none.h - a link without a cable: what is sent vanishes, nothing comes.
 */
#ifndef BACK_NET_NONE_H
#define BACK_NET_NONE_H

#include "back/net.h"

/* NULL when memory is exhausted. */
struct net *net_none_new(void);

#endif
