/** Shared memory of a case's kernel: `tile`, 32 bytes for each thread. */
export const shared = ".shared .align 16 .b8 tile[4096];";
/** %x: this thread's part. */
export const ownShared = "mov.u64 %x, tile; mov.u32 %t, %tid.x; mul.wide.u32 %y, %t, 32; add.u64 %x, %x, %y;";
