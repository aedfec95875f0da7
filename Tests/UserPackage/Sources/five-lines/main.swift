// The library's five lines, as the README has them. Prints the cosines of one picture and two sentences.
import CLIPGPU

let clip = try CLIP.load()
let image = try clip.preprocess(contentsOf: CommandLine.arguments[1])
let text = try clip.tokenize(["a red circle", "a blue star"])
let similarity = try clip.encodeImage([image]).cosineSimilarity(to: clip.encodeText(text))
print(similarity[0][0], similarity[0][1])
