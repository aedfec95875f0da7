// int8 on processors with AVX-VNNI, which few machines have where tests run: the same source with the instruction emulated.
import EmulatedVNNI
import Testing

@Test(
    "AVX-VNNI's kernels, their instruction emulated, give the plain kernels' bits",
    .enabled(if: vnni_can_be_emulated()),
    arguments: [(1, 1, 1), (3, 7, 5), (50, 85, 70), (131, 256, 130), (7, 3072, 33)])
func emulatedVNNI(rows: Int, inputs: Int, outputs: Int) {
    #expect(vnni_has_the_plain_bits(rows, inputs, outputs))
}
