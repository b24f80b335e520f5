/*
 * tests/system/selfmod.h - what the tests of code that changes share: places for code, and the
 * shortest functions to put there.
 */
#ifndef SELFMOD_H
#define SELFMOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
enum { RW = PROT_READ | PROT_WRITE, RX = PROT_READ | PROT_EXEC, RWX = RW | PROT_EXEC };

typedef int (*code_fn)(void);

/* Says what is wrong, and ends the program with status 1. */
void fail(const char *test, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* PAGES pages of memory with rights PROT; or PAGES pages of file FD from page FIRST at AT (shared).
 */
uint8_t *pages_new(size_t pages, int prot);
uint8_t *pages_map(void *at, int fd, size_t first, size_t pages, int prot);
/* A memory file of PAGES pages. */
int file_new(size_t pages);

/* mov eax, VALUE; ret: 6 bytes, whose bytes 1 to 4 are the value. */
void put_return(uint8_t *at, int value);
/* A jump or call with a 32-bit displacement: 5 bytes. */
void put_branch(uint8_t *at, uint8_t opcode, const uint8_t *to);
int call(const void *code);
/* What makes a processor see code that was written through another address. */
void serialize(void);

/* Ends the program unless GOT is WANTED. */
void expect(const char *test, unsigned round, int got, int wanted);
/* Says that a test went well. */
void done(const char *test);

/* Stores into code by one thread; what changes with mappings and files, where DISK (or NULL) is a
 * block device of numbered functions; code that other threads change. */
void selfmod_stores(unsigned rounds);
void selfmod_maps(unsigned rounds, const char *disk);
void selfmod_threads(unsigned rounds);

#endif
