/*
 * back/entropy/getrandom.h - random bytes from the host kernel.
 */
#ifndef BACK_ENTROPY_GETRANDOM_H
#define BACK_ENTROPY_GETRANDOM_H

#include "back/entropy.h"

/* The one source there is: it has no state, and freeing it does nothing. */
struct entropy *entropy_getrandom(void);

#endif
