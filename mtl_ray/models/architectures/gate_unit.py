"""The gate of PEPNet and POSO."""

from torch import Tensor, nn


class GateUnit(nn.Module):
    """2 sigmoid(W2 relu(W1 p)): a factor for each hidden unit, 1 on average (the gate NU of PEPNet)."""

    def __init__(self, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))

    def forward(self, profile_features: Tensor) -> Tensor:
        """(B, in_features) to factors (B, out_features) between 0 and 2."""
        return 2 * self.layers(profile_features).sigmoid()
