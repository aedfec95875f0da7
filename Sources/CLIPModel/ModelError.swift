// The one error of this floor.
import Checkpoints

/// A model that cannot be used, or an input that does not fit it: what is wrong, where, and what was expected.
package struct ModelError: Error, CustomStringConvertible, Sendable {
    package var description: String
    /// Whether all that is missing is the activation, which no file of the model says.
    package var needsActivation = false

    package init(_ description: String) { self.description = description }

    init(_ error: CheckpointError) { description = error.description }
}

/// Runs file operations as part of opening a model.
func reading<Result>(_ body: () throws(CheckpointError) -> Result) throws(ModelError) -> Result {
    do throws(CheckpointError) { return try body() } catch { throw ModelError(error) }
}
