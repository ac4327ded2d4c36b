"""The network of each architecture: one line a paper."""

from mtl_ray.config import model
from mtl_ray.config.model import ArchitectureConfig
from mtl_ray.models.architectures.adatt import AdaTTNetwork
from mtl_ray.models.architectures.aitm import AITMNetwork
from mtl_ray.models.architectures.base import Network
from mtl_ray.models.architectures.cross_stitch import CrossStitchNetwork
from mtl_ray.models.architectures.esmm import ESMMNetwork
from mtl_ray.models.architectures.mmoe import MMoENetwork
from mtl_ray.models.architectures.pepnet import PEPNetNetwork
from mtl_ray.models.architectures.ple import PLENetwork
from mtl_ray.models.architectures.poso import POSONetwork
from mtl_ray.models.architectures.shared_bottom import SharedBottomNetwork
from mtl_ray.models.architectures.single_task import SingleTaskNetwork
from mtl_ray.models.architectures.soft_sharing import SoftSharingNetwork
from mtl_ray.models.architectures.stem import STEMNetwork

NETWORKS: dict[type, type[Network]] = {
    model.SingleTaskConfig: SingleTaskNetwork,
    model.SharedBottomConfig: SharedBottomNetwork,
    model.SoftSharingConfig: SoftSharingNetwork,
    model.CrossStitchConfig: CrossStitchNetwork,
    model.MMoEConfig: MMoENetwork,
    model.CGCConfig: PLENetwork,
    model.PLEConfig: PLENetwork,
    model.AdaTTConfig: AdaTTNetwork,
    model.STEMConfig: STEMNetwork,
    model.PEPNetConfig: PEPNetNetwork,
    model.POSOConfig: POSONetwork,
    model.ESMMConfig: ESMMNetwork,
    model.AITMConfig: AITMNetwork,
}


def network_of(settings: ArchitectureConfig) -> type[Network]:
    """The class of the network that the settings describe."""
    return NETWORKS[type(settings)]
