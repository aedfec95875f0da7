// A checkpoint in several files, named by an index: `model.safetensors.index.json`, `pytorch_model.bin.index.json`.

extension Checkpoint {
    /// Reads `{"weight_map": {tensor: file, …}}` and the files it names, which lie beside the index.
    ///
    /// Every tensor of the map must be in the file that the map says; tensors of those files that the map leaves out
    /// are read too, so that none is ignored silently.
    package static func openSharded(indexPath: String) throws(CheckpointError) -> Checkpoint {
        let index = try MappedFile(path: indexPath)
        let map: [(name: String, file: String)]
        do throws(CheckpointError) {
            map = try index.withBytes { (bytes) throws(CheckpointError) in try weightMap(bytes) }
        } catch {
            throw CheckpointError("\(indexPath) is not a sound index of weights: \(error.description)")
        }
        let folder = indexPath.lastIndex(of: "/").map { String(indexPath[...$0]) } ?? ""
        var shards: [String: Checkpoint] = [:]
        var tensors: [StoredTensor] = []
        for (_, file) in map where shards[file] == nil {
            let shard = try openFile(path: folder + file)
            shards[file] = shard
            tensors += shard.tensors
        }
        for (name, file) in map where shards[file]?[name] == nil {
            throw CheckpointError("\(indexPath) says that \(file) holds the tensor \(quoted(name)), but it does not")
        }
        return try Checkpoint(name: indexPath, tensors: tensors, metadata: [:])
    }

    private static func weightMap(
        _ bytes: UnsafeRawBufferPointer
    ) throws(CheckpointError) -> [(name: String, file: String)] {
        guard case .object(let members)? = try JSON(parsing: bytes)["weight_map"], !members.isEmpty else {
            throw CheckpointError("it has no \"weight_map\" with names in it")
        }
        var map: [(name: String, file: String)] = []
        for member in members {
            guard let file = member.value.string, !file.isEmpty, file != ".", file != "..",
                !file.utf8.contains(UInt8(ascii: "/")), !file.utf8.contains(0)
            else {
                throw CheckpointError("the file of \(quoted(member.key)) is not the name of a file beside the index")
            }
            map.append((member.key, file))
        }
        return map
    }
}
