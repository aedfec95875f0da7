/// Why a picture could not be turned into a model's input: one sentence that says what was found and what to do.
/// It does not name the file, which only the caller knows.
package struct ImageError: Error, Equatable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}
