// Tiles in shared memory as wgmma reads them: rows of 128 bytes, whose pieces of 16 are exchanged by an exclusive or with the row's lowest
// three bits. Behind it: products and attention with wgmma.
//
// PTX ISA 8.3, "Asynchronous warpgroup matrix instructions": the matrix descriptor, swizzling of 128 bytes. A factor whose rows are its
// columns of results (K-major) and one whose rows are its inputs (MN-major) have the same descriptor, as long as a row holds all columns.

// Address, then 1024 bytes from eight rows to the next eight, pieces exchanged. Tiles begin at multiples of 1024.
static inline ulong descriptor(uint address) { return (ulong)(address >> 4 & 0x3fff) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

#if EMULATED
// The half in row `row` and column `column` of the tile that a descriptor names.
static inline float tile_half(__local const uchar *memory, ulong tile, uint row, uint column) {
    uint address = (uint)(tile & 0x3fff) * 16 + row / 8 * (uint)(tile >> 32 & 0x3fff) * 16 + row % 8 * 128 + column * 2;
    address ^= (address >> 7 & 7) << 4;
    return vload_half(0, (__local const half *)(memory + address));
}
#endif
