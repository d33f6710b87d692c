"""What holds of sums of logits wherever they are kept: the logit of what is skipped, how large one may be, and log odds in 8 bits."""

from vesalius.core.errors import VesaliusError

AIR = 10.0  # logit of the background where a tile is skipped: softmax 0.999 among 25 classes
LIMIT = 6e4  # half precision ends at 65504
EVEN, CODES_PER_UNIT = 128, 8  # of log odds in 8 bits


def beyond() -> VesaliusError:
    """Of logits that no sum can hold."""
    return VesaliusError(
        f"The network gave logits that are not finite or beyond {LIMIT:.0f}. Look at log.csv for the step where the loss "
        "left its course and train again with a lower learning rate, or check the image for NaN (vesalius inspect)."
    )
