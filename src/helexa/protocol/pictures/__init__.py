"""What a request's body alone tells of its pictures, to a gateway and to a neuron alike."""
