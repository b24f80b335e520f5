/*
 * tests/bench/jobs/compile.c - what the compiler has to compile in make bench: the micro-benchmarks
 * and this file's own code, in one unit.
 */
#include "../micro_integer.c"
#include "../micro_system.c"
#include "../micro_vector.c"
