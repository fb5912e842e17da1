/* bitmap.c: the search for a set bit. */
#include "atomic.h"

/* Not for zero, for which BSF has no result. TZCNT would have one, but is newer. */
static u32 lowest_bit(u64 word) {
    u64 bit;
    asm("bsf %1, %0" : "=r"(bit) : "r"(word) : "cc");
    return (u32)bit;
}

int bitmap_find_from(const u64 *map, u32 bits, u32 from) {
    u32 words = BITMAP_WORDS(bits);
    for (u32 i = 0; i <= words; i++) { /* the first word twice: its high part, later its low one */
        u32 index = (from / 64 + i) % words;
        u64 word = __atomic_load_n(&map[index], __ATOMIC_RELAXED);
        if (i == 0)
            word &= ~0ull << (from % 64);
        if (word)
            return (int)(index * 64 + lowest_bit(word));
    }
    return -1;
}
