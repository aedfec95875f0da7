// What cosines say of a picture and its texts.

import CLIPGPU
import Foundation
import Testing

@Suite("probabilities") struct ProbabilityTests {
    private func model(_ name: String) throws -> CLIP {
        try CLIP.load(repository + "/Tests/CLIPModelTests/Fixtures/" + name, device: .cpu, towers: .image)
    }

    @Test("softmax of the scaled cosines") func softmax() throws {
        let clip = try model("tiny-gelu")
        #expect(clip.information.logitBias == nil)
        let found = clip.probabilities(ofCosines: [0.1, 0.3])
        let ratio = exp(0.2 * exp(3.1))
        #expect(abs(Double(found[1]) - ratio / (1 + ratio)) < 1e-6 && abs(found[0] + found[1] - 1) < 1e-6)
    }

    @Test("with a logit bias, the sigmoid of each") func sigmoid() throws {
        let clip = try model("siglip")
        let bias = try #require(clip.information.logitBias)
        #expect(abs(bias + 4.2) < 1e-6)
        let found = clip.probabilities(ofCosines: [0.1, 0.3])
        for (cosine, probability) in zip([0.1, 0.3], found) {
            #expect(abs(Double(probability) - 1 / (1 + exp(4.2 - cosine * exp(3.1)))) < 1e-6)
        }
        // Whatever the other texts are.
        #expect(clip.probabilities(ofCosines: [0.3]) == [found[1]])
    }
}
